"""What a queued task does next. Pure."""

from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ids import RunId, WorkspaceId
from core.limits import Limits
from core.plan.step import Planned, told
from core.ports.store import AtMost, Insert, Touch, Update, Wake
from core.project import Project
from core.run import LIVE, Run, RunState
from core.task import Task, TaskState


def plan_task(
    task: Task,
    project: Project,
    *,
    now: datetime,
    clocks: Clocks,
    limits: Limits,
    chat_in: WorkspaceId | None = None,
) -> Planned:
    """Start the next run of a queued task, if the limits leave room for it.

    The limits are counted as the run is written; the store refuses the plan when one is reached.
    Chats (`chat_in` their workspace) are not counted: they need no room that is not taken already.
    """
    if task.state is not TaskState.QUEUED:
        return Planned()
    run = Run(
        id=RunId(f"{task.id}.{task.runs + 1}"),
        task_id=task.id,
        asked_by=task.asked_by,
        number=task.runs + 1,
        state=RunState.PLACING,
        state_since=now,
        created_at=now,
        deadline_at=now + timedelta(seconds=clocks.node_ready_s),
        budget_usd=project.budget_usd,
        marks={"placing": now.isoformat()},
        chat_in=chat_in,
    )
    limits_ = (
        AtMost(number=limits.runs, where=(("state", LIVE), ("chat_in", None)), code="runs"),
        AtMost(
            number=limits.runs_per_person,
            where=(("state", LIVE), ("chat_in", None), ("asked_by", task.asked_by)),
            code="runs_per_person",
        ),
    )
    return Planned(
        changes=(
            Insert(run, limits=limits_ if chat_in is None else ()),
            Update(task.moved(TaskState.ACTIVE, at=now, runs=task.runs + 1)),
            told("task.active", f"task:{task.id}", at=now, task_id=task.id, run_id=run.id),
            told("run.placing", f"run:{run.id}", at=now, task_id=task.id, run_id=run.id),
            Touch(task.id),
            Wake("run", run.id),
        )
    )
