from core.limits import Limits
from core.plan.task import plan_task
from core.ports.store import Insert, Update, Wake
from core.run import RunState
from core.task import TaskState
from tests.fakes.nouns import CLOCKS, NOW, a_project, a_task, at


def test_a_queued_task_gets_its_next_run_and_the_run_is_woken():
    queued = a_task(state=TaskState.QUEUED, runs=2)
    planned = plan_task(queued, a_project(), now=NOW, clocks=CLOCKS, limits=Limits())
    (run,) = [change.noun for change in planned.changes if isinstance(change, Insert)]
    (task,) = [change.noun for change in planned.changes if isinstance(change, Update)]
    assert (run.id, run.state, run.deadline_at) == ("T-1.3", RunState.PLACING, at(900))
    assert (task.state, task.runs) == (TaskState.ACTIVE, 3)
    assert Wake("run", "T-1.3") in planned.changes


def test_n12_the_limits_count_the_new_run_too():
    limits = Limits(runs=1, runs_per_person=1)
    queued = a_task(state=TaskState.QUEUED)
    planned = plan_task(queued, a_project(), now=NOW, clocks=CLOCKS, limits=limits)
    (insert,) = [change for change in planned.changes if isinstance(change, Insert)]
    assert [(limit.number, limit.code) for limit in insert.limits] == [
        (1, "runs"),
        (1, "runs_per_person"),
    ]
    assert all(RunState.ENDED not in dict(limit.where)["state"] for limit in insert.limits)


def test_a_task_that_is_not_queued_is_left_alone():
    for state in set(TaskState) - {TaskState.QUEUED}:
        planned = plan_task(
            a_task(state=state), a_project(), now=NOW, clocks=CLOCKS, limits=Limits()
        )
        assert planned.changes == ()
