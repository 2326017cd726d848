"""What people see of a task: its records folded into a card. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from core.card import Card, CheckLine, Holder, Question, Result, Step, StepMark
from core.decision import Decision, DecisionState
from core.ledger import NAMES
from core.node import Node, NodeState
from core.project import Project
from core.receipt import checks_in, collected_in, measured_lines, size_of
from core.run import Outcome, Run, RunState
from core.session import AgentSession, SessionState
from core.task import Task, TaskState
from core.terminal import Terminal, TerminalState
from core.workspace import Workspace, WorkspaceState

STEPS: tuple[tuple[str, tuple[RunState, ...]], ...] = (
    ("Machine", (RunState.PLACING,)),
    ("Workspace", (RunState.PREPARING,)),
    ("Agent", (RunState.STARTING, RunState.WORKING, RunState.ASKING)),
    ("Checks", (RunState.CHECKING,)),
    ("Pull request", (RunState.PUBLISHING,)),
)
_CHAT_STEPS = tuple(step for step in STEPS if step[0] == "Agent")
_FAILED = {Outcome.FAILED, Outcome.BLOCKED, Outcome.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecords:
    """Everything a card is made of.

    Attributes:
        run: The newest run; None before the first.
        terminal: The live one of its agent session.
        usual_s: Median seconds of each step in this project's history.
        position: Place in the queue, 0 when it is not queued.
        names: Display names by person.
    """

    task: Task
    project: Project
    now: datetime
    run: Run | None = None
    node: Node | None = None
    workspace: Workspace | None = None
    session: AgentSession | None = None
    terminal: Terminal | None = None
    decisions: Sequence[Decision] = ()
    tokens_usd: Decimal = Decimal(0)
    usual_s: Mapping[str, float] | None = None
    position: int = 0
    names: Mapping[str, str] | None = None
    page_url: str = ""


def card(records: TaskRecords) -> Card:
    """Return what people see of the task now."""
    task, run, workspace = records.task, records.run, records.workspace
    is_live = run is not None and not run.is_over
    return Card(
        task_id=task.id,
        title=task.title,
        state=task.state,
        facts=_facts(records),
        steps=tuple(_steps(records, run)) if run is not None else (),
        run_id=None if run is None else run.id,
        run_state=str(run.state) if run is not None and is_live else "",
        workspace_id=None if workspace is None else workspace.id,
        position=records.position,
        notes=_notes(workspace),
        questions=tuple(_question(records, decision) for decision in records.decisions),
        result=_result(records, run) if run is not None and run.is_over else None,
        pull_url=task.pull_url,
        page_url=records.page_url,
        tokens_usd=records.tokens_usd,
        can_stop=not task.state.is_over,
        session_id=run.session_id if run is not None and _is_at_work(records, run) else None,
        holder=_holder(records) if is_live else None,
    )


def _is_at_work(records: TaskRecords, run: Run) -> bool:
    session = records.session
    is_alive = session is not None and session.state is not SessionState.ENDED
    return is_alive and run.state in {RunState.WORKING, RunState.ASKING}


def _holder(records: TaskRecords) -> Holder | None:
    terminal = records.terminal
    if terminal is None:
        return None
    by, since = _name(records, terminal.opened_by), terminal.state_since
    is_waiting = terminal.state is TerminalState.WAITING
    if is_waiting:
        text = f"goes to a terminal of {by} when it is idle"
    else:
        text = f"in the terminal since {since:%H:%M} UTC, by {by}"
    return Holder(terminal_id=terminal.id, by=by, since=since, is_waiting=is_waiting, text=text)


def _name(records: TaskRecords, person: str) -> str:
    return (records.names or {}).get(person, person)


def _facts(records: TaskRecords) -> tuple[str, ...]:
    task, project, run = records.task, records.project, records.run
    base = project.branch or (records.workspace.base if records.workspace else "")
    budget = project.budget_usd if run is None else run.budget_usd
    chat = () if run is None or run.chat_in is None else (f"chat in {run.chat_in}",)
    return (
        *chat,
        f"{project.repository} @ {base}" if base else project.repository,
        project.size,
        f"asked by {_name(records, task.asked_by)}",
        f"budget ${budget:.2f}",
    )


def _notes(workspace: Workspace | None) -> tuple[str, ...]:
    if workspace is None:
        return ()
    return ((workspace.recovered,) if workspace.recovered else ()) + workspace.notes


def durations(run: Run, now: datetime) -> dict[str, float]:
    """Return the seconds that each step of a run took so far, without those not begun."""
    marks = {name: datetime.fromisoformat(at) for name, at in (run.marks or {}).items()}
    end = run.ended_at or now
    begun: list[tuple[str, datetime]] = []
    for name, states in STEPS:
        starts = [marks[state] for state in states if state in marks]
        if starts:
            begun.append((name, min(starts)))
    out = {}
    for index, (name, start) in enumerate(begun):
        until = begun[index + 1][1] if index + 1 < len(begun) else end
        out[name] = max(0.0, (until - start).total_seconds())
    return out


def _steps(records: TaskRecords, run: Run) -> list[Step]:
    took = durations(run, records.now)
    order = [name for name, _ in STEPS if name in took]
    current = order[-1] if order else ""
    lines = []
    for name, _ in STEPS if run.chat_in is None else _CHAT_STEPS:
        mark: StepMark = "todo" if name not in took else "done"
        if name == current and not run.is_over:
            mark = "doing"
        elif name == current and run.verdict in _FAILED:
            mark = "failed"
        elif run.is_over and name not in took:
            mark = "skipped"
        lines.append(
            Step(
                name=name,
                mark=_seen(records, run, name, mark),
                text=_step_text(records, run, name, mark),
                took_s=took.get(name),
                usual_s=(records.usual_s or {}).get(name),
            )
        )
    return lines


def _seen(records: TaskRecords, run: Run, name: str, mark: StepMark) -> StepMark:
    """Mark a step that is through, but not as it should be."""
    if mark != "done":
        return mark
    if name == "Workspace" and records.workspace is not None and records.workspace.recovered:
        return "warning"
    checks = checks_in(run.measured) or ()
    if name == "Checks" and any(check.exit_code != 0 for check in checks):
        return "warning"
    if name == "Pull request" and run.verdict is not Outcome.PULL_REQUEST:
        return "skipped"
    return mark


def _step_text(records: TaskRecords, run: Run, name: str, mark: StepMark) -> str:
    if mark in {"todo", "skipped"}:
        return ""
    texts = {
        "Machine": _machine_text,
        "Workspace": _workspace_text,
        "Agent": _agent_text,
        "Checks": _checks_text,
        "Pull request": _pull_text,
    }
    return texts[name](records, run)


def _machine_text(records: TaskRecords, run: Run) -> str:
    node = records.node
    if run.node_id is None or node is None:
        return "waiting for a machine"
    where = "this computer" if node.supplier == "local" else node.id
    return where if node.state is NodeState.READY else f"{where}, {node.state}"


def _workspace_text(records: TaskRecords, run: Run) -> str:  # noqa: ARG001  one shape for all
    workspace = records.workspace
    if workspace is None:
        return "asked for"
    if workspace.error:
        return workspace.error.splitlines()[0][:140]
    if workspace.state is WorkspaceState.BUILDING and workspace.steps:
        step = workspace.steps[-1]["step"]
        return NAMES.get(step, step)
    return "recovered" if workspace.recovered else str(workspace.state)


def _agent_text(records: TaskRecords, run: Run) -> str:
    session, holder = records.session, _holder(records)
    if holder is not None and not holder.is_waiting and not run.is_over:
        return holder.text
    if run.state is RunState.ASKING:
        return "waits for your answer"
    if run.state is RunState.STARTING:
        return "starting Claude Code"
    if run.state is RunState.WORKING:
        if run.chat_in is not None and session is not None and session.state is SessionState.IDLE:
            return "waits for your words"
        return (session.progress if session else "") or "working"
    return "done" if run.verdict not in _FAILED else "stopped"


def _checks_text(records: TaskRecords, run: Run) -> str:
    checks = checks_in(run.measured)
    if checks is None:
        if run.state is RunState.CHECKING:
            return "measuring" if records.project.checks else "collecting the work"
        return "none set" if not records.project.checks else "not run"
    failed = sum(check.exit_code != 0 for check in checks)
    return f"{failed} of {len(checks)} failed" if failed else f"{len(checks)} passed"


def _pull_text(records: TaskRecords, run: Run) -> str:
    if run.verdict is Outcome.PULL_REQUEST and records.task.pull_number:
        return f"#{records.task.pull_number}"
    return "opening" if run.state is RunState.PUBLISHING and run.verdict is None else "pushing"


def _question(records: TaskRecords, decision: Decision) -> Question:
    return Question(
        id=decision.id,
        kind=decision.kind,
        title=decision.title,
        detail=decision.detail,
        questions=decision.questions,
        is_open=decision.state is DecisionState.OPEN,
        answer=answer_text(decision),
        answered_by=_name(records, decision.answered_by or ""),
    )


def answer_text(decision: Decision) -> str:
    """Say how a decision was answered; empty while it is open."""
    if decision.state is DecisionState.WITHDRAWN:
        return "no longer needed"
    if decision.state is DecisionState.OPEN:
        return ""
    if decision.answers:
        return "; ".join(decision.answers.values())
    return "yes" if decision.allow else "no"


def headline(task: Task, run: Run) -> str:
    """Say in one line what came of a run."""
    if run.verdict is Outcome.PULL_REQUEST:
        draft = " (draft)" if task.pull_draft else ""
        return f"PR #{task.pull_number} {task.title}{draft}"
    if run.verdict is Outcome.ANSWER:
        return "Answered"
    if run.code == "chat_closed":
        return "Closed"
    return {
        Outcome.PUSHED: f"Pushed to {task.branch}",
        Outcome.NO_CHANGE: "Nothing was changed",
        Outcome.BLOCKED: "Blocked",
        Outcome.FAILED: "Failed",
        Outcome.CANCELLED: "Stopped",
    }.get(run.verdict or Outcome.FAILED, "Ended")


def _result(records: TaskRecords, run: Run) -> Result:
    found, took = collected_in(run.measured), durations(run, records.now)
    added, removed = size_of(found.files) if found else (0, 0)
    checks = checks_in(run.measured) or ()
    return Result(
        outcome=str(run.verdict),
        headline=headline(records.task, run),
        advice=run.reason,
        says=run.summary,
        measured=measured_lines(run),
        checks=tuple(
            CheckLine(command=c.command, ok=c.exit_code == 0, took_s=c.took_s, tail=c.tail)
            for c in checks
        ),
        added=added,
        removed=removed,
        files=len(found.files) if found else 0,
        wait_s=took.get("Machine", 0.0) + took.get("Workspace", 0.0),
        work_s=took.get("Agent", 0.0),
        checks_s=took.get("Checks", 0.0),
    )


def queue_position(task: Task, queued: Sequence[Task]) -> int:
    """Return the task's place among those that wait, counted from 1; 0 if it does not wait."""
    if task.state is not TaskState.QUEUED:
        return 0
    key = (-task.priority, task.created_at, task.id)
    return 1 + sum((-t.priority, t.created_at, t.id) < key for t in queued if t.id != task.id)
