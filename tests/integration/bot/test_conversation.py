import asyncio
from dataclasses import replace

import pytest

from bot import replies
from core.access import Role
from core.decision import Decision, DecisionState
from core.errors import ForbiddenError, NotFoundError, UserError
from core.ids import ProjectId, ThreadId
from core.message import Post, Said, Thread
from core.ports.store import Insert, Wake
from core.run import Outcome, Run, RunState
from core.session import Prompt
from core.task import Task, TaskState
from tests.fakes.desk import Desk
from tests.fakes.nouns import a_decision

HOSTILE = [
    "\x00\ud800 half a pair",
    "<!channel> @here ${{ secrets }} {{7*7}} `rm -rf /`",
    "'; DROP TABLE task; --",
    "\u202e\u200b\x1b[31m",
    "../../etc/passwd\r\nX: y",
]


async def test_a_message_becomes_a_task_with_its_prompt_card_and_branch(desk: Desk) -> None:
    ana = await desk.person("ana")
    heard = await desk.say(ana, "Fix the cart totals.", project=ProjectId("web"))
    task = await desk.task(heard.task_id)
    assert (task.state, task.project, task.title) == (
        TaskState.QUEUED,
        "web",
        "Fix the cart totals",
    )
    assert task.branch == f"samovar/{task.id}-fix-the-cart-totals"
    (prompt,) = await desk.store.find(Prompt, task_id=task.id)
    assert (prompt.state, prompt.run_id, prompt.by) == ("pending", f"{task.id}.1", "ana")
    (post,) = await desk.store.find(Post, task_id=task.id)
    assert (post.kind, post.lane, post.state) == ("card", heard.thread, "pending")
    assert heard.said == ""
    await desk.work_off("task")
    assert (await desk.store.get(Run, f"{task.id}.1")).state is RunState.PLACING


async def test_the_project_is_taken_from_the_words(desk: Desk) -> None:
    heard = await desk.say(await desk.person("ana"), "Fix rounding in acme/till please")
    assert (await desk.task(heard.task_id)).project == "till"


async def test_a_project_that_is_not_named_is_asked_for_and_nothing_said_is_lost(
    desk: Desk,
) -> None:
    ana = await desk.person("ana")
    asked = await desk.say(ana, "Fix the rounding.")
    assert asked.task_id is None, "there is no task yet"
    assert "Which project" in asked.said
    assert [post.kind for post in await desk.store.find(Post, lane=asked.thread)] == ["reply"]
    heard = await desk.say(ana, "till", thread=asked.thread)
    task = await desk.task(heard.task_id)
    assert (task.project, task.thread) == ("till", asked.thread)
    assert "Fix the rounding." in task.prompt


async def test_an_unknown_project_is_refused_with_those_there_are(desk: Desk) -> None:
    ana = await desk.person("ana")
    with pytest.raises(NotFoundError, match=r"no project `shop`\. There are: till, web") as refused:
        await desk.say(ana, "Fix it.", project=ProjectId("shop"))
    assert refused.value.code == "unknown_project"
    assert await desk.store.find(Said) == []


@pytest.mark.parametrize("text", ["", "  \n\t "])
async def test_an_empty_message_is_refused(desk: Desk, text: str) -> None:
    with pytest.raises(UserError) as refused:
        await desk.say(await desk.person("ana"), text, project=ProjectId("web"))
    assert refused.value.code == "empty"


async def test_p1_a_message_under_eleven_delivery_ids_is_one_task(desk: Desk) -> None:
    ana = await desk.person("ana")
    heard = await asyncio.gather(
        *(
            desk.say(ana, "Fix it.", key=f"d{n % 11}", message="m1", project=ProjectId("web"))
            for n in range(33)
        )
    )
    (task,) = await desk.store.find(Task)
    assert {one.task_id for one in heard} == {task.id}
    assert {one.thread for one in heard} == {task.thread}
    assert len(await desk.store.find(Prompt)) == 1
    again = await desk.say(ana, "Fix it.", key="d3", message="m1", project=ProjectId("web"))
    assert again.task_id == task.id


async def test_p1_a_delivery_that_comes_again_too_early_waits_for_the_same_receipt(
    desk: Desk,
) -> None:
    ana = await desk.person("ana")
    desk.is_open = False
    first = await desk.say(ana, "Fix it.", key="d1", message="m1", project=ProjectId("web"))
    assert first.task_id is None
    desk.is_open = True
    again = await desk.say(ana, "Fix it.", key="d1", message="m1", project=ProjectId("web"))
    (task,) = await desk.store.find(Task)
    assert (again.task_id, again.thread) == (task.id, task.thread)


async def test_p1_t10_a_message_is_stored_before_anything_is_done_about_it(desk: Desk) -> None:
    ana = await desk.person("ana")
    desk.is_open = False
    heard = await desk.say(ana, "Fix it.", project=ProjectId("web"))
    assert heard.task_id is None
    (said,) = await desk.store.find(Said)
    assert (said.state, said.text) == ("received", "Fix it.")
    await desk.work_off("inbox")
    assert len(await desk.store.find(Task)) == 1


async def test_t5_the_same_title_twice_makes_two_branches(desk: Desk) -> None:
    ana = await desk.person("ana")
    tasks = await asyncio.gather(*(desk.asked(ana, "Fix the cart.") for _ in range(5)))
    known = [await desk.task(task) for task, _ in tasks]
    assert {task.title for task in known} == {"Fix the cart"}
    assert len({task.branch for task in known}) == 5
    assert all(task.branch.startswith(f"samovar/{task.id}-") for task in known)


async def test_t4_whatever_is_said_while_a_run_works_starts_no_other(desk: Desk) -> None:
    """Also `try again`: words steer the run that there is, until it has ended."""
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    for text in ("try again", "Try it anew.", "try again"):
        await desk.say(ana, text, thread=thread)
        await desk.work_off("task")
    assert [known.id for known in await desk.store.find(Run)] == [run.id]
    assert {p.run_id for p in await desk.store.find(Prompt)} == {run.id}


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 1_000_000])
async def test_c10_words_are_data(desk: Desk, text: str) -> None:
    ana = await desk.person("ana")
    heard = await desk.say(ana, text, project=ProjectId("web"))
    task = await desk.task(heard.task_id)
    assert task.branch.removeprefix(f"samovar/{task.id}-").replace("-", "").isalnum()
    assert task.branch.isascii()
    assert len(task.title) <= 80
    view = await desk.commands.task(ana, task.id)
    assert len(view.lines[0].text) == len(text.strip())


# Follow-ups


async def test_a_reply_steers_and_one_for_later_waits_for_idle(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    await desk.say(ana, "Also the till.", thread=thread)
    await desk.say(ana, "Then the docs. queue", thread=thread)
    await desk.say(ana, "And the log.", thread=thread, when_idle=True)
    prompts = {p.text: p for p in await desk.store.find(Prompt, run_id=run.id)}
    assert [(text, p.when_idle) for text, p in prompts.items()][1:] == [
        ("Also the till.", False),
        ("Then the docs", True),
        ("And the log.", True),
    ]
    lines = (await desk.commands.task(ana, run.task_id)).lines
    assert [line.receipt for line in lines][-1] == "waits until the agent is idle"


async def test_an_aside_is_ignored(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    heard = await desk.say(ana, "!aside What do you think, Ben?", thread=thread)
    assert (heard.task_id, heard.said) == (run.task_id, "")
    assert len(await desk.store.find(Prompt)) == 1
    assert (await desk.store.find(Said))[-1].state == "ignored"


@pytest.mark.parametrize("state", [TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED])
async def test_a_reply_after_the_end_starts_the_next_run(desk: Desk, state: TaskState) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    over = {"state": RunState.ENDED, "verdict": Outcome.PULL_REQUEST, "deadline_at": None}
    await desk.put(replace(run, **over), replace(await desk.task(run.task_id), state=state))
    heard = await desk.say(ana, "Now in blue.", thread=thread)
    assert heard.task_id == run.task_id
    assert (await desk.task(run.task_id)).state is TaskState.QUEUED
    await desk.work_off("task")
    second = await desk.store.get(Run, f"{run.task_id}.2")
    (prompt,) = await desk.store.find(Prompt, run_id=second.id)
    assert (second.state, prompt.text) == (RunState.PLACING, "Now in blue.")


async def test_only_the_marker_is_kept_as_it_is(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    await desk.say(ana, ". queue", thread=thread)
    assert (await desk.store.find(Prompt, run_id=run.id))[-1].text == ". queue"


# Stop


@pytest.mark.parametrize("word", ["stop", "Stop!", "STOP."])
async def test_p9_stop_in_words_stops_the_run(desk: Desk, word: str) -> None:
    ana, ben = await desk.person("ana"), await desk.person("ben")
    run, thread = await desk.working(ana)
    await desk.say(ben, word, thread=thread)
    assert (await desk.store.get(Run, run.id)).cancel_by == "ben"
    assert len(await desk.store.find(Prompt)) == 1


async def test_p9_five_stops_at_once_equal_one(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    await asyncio.gather(*(desk.commands.stop(ana, run.task_id) for _ in range(5)))
    events = await desk.commands.events(ana, after=0, task=run.task_id)
    assert [event.kind for event in events].count("run.stop_asked") == 1
    assert (await desk.store.get(Run, run.id)).version == run.version + 1


async def test_p9_a_task_that_waits_is_stopped_with_its_words(desk: Desk) -> None:
    ana = await desk.person("ana")
    task, thread = await desk.asked(ana)
    await asyncio.gather(*(desk.commands.stop(ana, task) for _ in range(5)))
    assert (await desk.task(task)).state is TaskState.CANCELLED
    assert [p.state for p in await desk.store.find(Prompt)] == ["cancelled"]
    await desk.work_off("task")
    assert await desk.store.find(Run) == []
    nothing = await desk.say(ana, "stop", thread=thread)
    assert (nothing.task_id, nothing.said) == (task, replies.NOTHING_TO_STOP)


# Questions


async def asking(desk: Desk, run: Run, **values: object) -> Decision:
    decision = a_decision(task_id=run.task_id, run_id=run.id, **values)
    await desk.put(decision)
    return await desk.store.get(Decision, decision.id)


QUESTIONS = ({"text": "Which colour?", "header": "Colour", "options": [], "multiple": False},)


async def test_p13_a_reply_answers_the_one_open_question(desk: Desk) -> None:
    ana, ben = await desk.person("ana"), await desk.person("ben")
    run, thread = await desk.working(ana)
    decision = await asking(desk, run, questions=QUESTIONS)
    await desk.say(ben, " Blue ", thread=thread)
    answered = await desk.store.get(Decision, decision.id)
    assert (answered.state, answered.answered_by) == (DecisionState.ANSWERED, "ben")
    assert answered.answers == {"Which colour?": "Blue"}
    assert len(await desk.store.find(Prompt)) == 1


@pytest.mark.parametrize(("word", "allow"), [("Yes!", True), ("no", False)])
async def test_p13_a_permission_is_given_in_words(desk: Desk, word: str, allow: bool) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    decision = await asking(desk, run, kind="permission")
    await desk.say(ana, word, thread=thread)
    assert (await desk.store.get(Decision, decision.id)).allow is allow


async def test_other_words_do_not_answer_a_permission(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    decision = await asking(desk, run, kind="permission")
    await desk.say(ana, "What would it delete?", thread=thread)
    assert (await desk.store.get(Decision, decision.id)).state is DecisionState.OPEN
    assert len(await desk.store.find(Prompt)) == 2


async def test_words_for_later_are_no_answer(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    decision = await asking(desk, run, questions=QUESTIONS)
    await desk.say(ana, "Then the docs. queue", thread=thread)
    assert (await desk.store.get(Decision, decision.id)).state is DecisionState.OPEN


async def test_p13_of_two_answers_at_once_one_wins_and_the_other_hears_whose(desk: Desk) -> None:
    ana, ben = await desk.person("ana"), await desk.person("ben")
    run, _ = await desk.working(ana)
    decision = await asking(desk, run, questions=QUESTIONS)
    results = await asyncio.gather(
        desk.commands.answer(ana, decision.id, surface="web", answers={"Which colour?": "Blue"}),
        desk.commands.answer(ben, decision.id, surface="cli", answers={"Which colour?": "Red"}),
        return_exceptions=True,
    )
    (lost,) = [result for result in results if result is not None]
    assert isinstance(lost, UserError)
    assert lost.code == "answered"
    known = await desk.store.get(Decision, decision.id)
    said = known.answers["Which colour?"]
    assert str(lost) == f"{known.answered_by.title()} has answered already: {said}."
    events = await desk.commands.events(ana, after=0, task=run.task_id)
    assert [event.kind for event in events].count("decision.answered") == 1


async def test_p13_a_question_that_went_away_cannot_be_answered(desk: Desk) -> None:
    ana = await desk.person("ana")
    run, _ = await desk.working(ana)
    decision = await asking(desk, run, state=DecisionState.WITHDRAWN)
    with pytest.raises(UserError, match="too late to answer: nobody needs"):
        await desk.commands.answer(ana, decision.id, surface="web")


# Who may


async def test_c8_a_viewer_may_look_and_nothing_else(desk: Desk) -> None:
    ana, eve = await desk.person("ana"), await desk.person("eve", "viewer")
    run, thread = await desk.working(ana)
    decision = await asking(desk, run)
    for attempt in (
        desk.say(eve, "Fix it.", project=ProjectId("web")),
        desk.say(eve, "And this.", thread=thread),
        desk.say(eve, "stop", thread=thread),
        desk.commands.stop(eve, run.task_id),
        desk.commands.answer(eve, decision.id, surface="web"),
        desk.commands.enrolment(eve),
    ):
        with pytest.raises(ForbiddenError, match=r"^You may not \w+ here\."):
            await attempt
    assert (await desk.commands.task(eve, run.task_id)).card.title == "Fix the cart"
    assert len(await desk.commands.tasks(eve)) == 1


@pytest.mark.parametrize("role", ["viewer", "member"])
async def test_c8_machines_are_for_administrators(desk: Desk, role: Role) -> None:
    person = await desk.person("mia", role)
    for attempt in (
        desk.commands.enrolment(person),
        desk.commands.delete_node(person, "node-1"),
        desk.commands.delete_workspace(person, "w1"),
    ):
        with pytest.raises(ForbiddenError, match="Only administrators may"):
            await attempt


async def test_what_does_not_exist_is_said_by_name(desk: Desk) -> None:
    ana = await desk.person("ana", "admin")
    for attempt, sentence in (
        (desk.commands.task(ana, "T-99"), "There is no task T-99."),
        (desk.commands.stop(ana, "T-99"), "There is no task T-99."),
        (desk.commands.answer(ana, "d1", surface="web"), "There is no question d1."),
        (desk.commands.delete_node(ana, "n1"), "There is no node n1."),
        (desk.commands.delete_workspace(ana, "w1"), "There is no workspace w1."),
        (desk.commands.build_log(ana, "w1"), "There is no workspace w1."),
    ):
        with pytest.raises(NotFoundError) as refused:
            await attempt
        assert str(refused.value) == sentence


async def test_words_in_a_thread_that_nobody_knows_start_a_task_there(desk: Desk) -> None:
    ana = await desk.person("ana")
    thread = ThreadId("slack:C1:171")
    heard = await desk.say(ana, "Fix it.", thread=thread, project=ProjectId("web"))
    assert (await desk.store.get(Thread, thread)).task_id == heard.task_id


async def test_a_reply_that_meets_the_end_of_its_run_is_not_lost(desk: Desk) -> None:
    """The run is written with the words: who comes second decides anew."""
    ana = await desk.person("ana")
    run, thread = await desk.working(ana)
    said = Said(
        key="late", surface="web", channel="web", message="late", thread=thread, author=ana.id,
        text="One more.", state="received", created_at=desk.clock.now(), data={},
    )  # fmt: skip
    await desk.store.commit(Insert(said), Wake("inbox", "late"))
    changes, _, _ = await desk.conversation._understood(said)
    over = replace(run, state=RunState.ENDED, verdict=Outcome.PUSHED, deadline_at=None)
    await desk.put(over, replace(await desk.task(run.task_id), state=TaskState.DONE))
    with pytest.raises(Exception, match="Run"):
        await desk.store.commit(*changes)
    await desk.work_off("inbox")
    assert (await desk.store.find(Prompt))[-1].run_id == f"{run.task_id}.2"
