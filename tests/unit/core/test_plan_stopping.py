"""How a workspace stops, sleeps, comes back and goes: one look at a time."""

from dataclasses import replace
from typing import Any

import pytest

from core.message import Thread
from core.node import NodeState
from core.order import NodeOrder
from core.place import Placement
from core.plan.leaving import NO_COPY, leave, thrown_away
from core.plan.step import Planned
from core.plan.stopping import REMOVALS_MAX, brought_in, made_copy, not_saved
from core.plan.workspace import plan_workspace
from core.ports.files import Stored
from core.ports.store import Insert, Update, Wake
from core.rescue import CopyState, RescueCopy
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import (
    CLOCKS,
    NOW,
    a_copy,
    a_link,
    a_node,
    a_task,
    a_workspace,
    an_answer,
    at,
)
from tests.unit.core.test_plan_workspace import view

SHA = "ab" * 32
SAVED = {
    "sha256": SHA, "size_bytes": 7, "branch": "topic", "head": "b" * 40, "base_commit": "a" * 40,
    "left_out": ["node_modules"], "left_out_count": 3,
}  # fmt: skip
READY = {
    "workspace": "wabcdefg", "attempt": 1, "container": "c2", "user": "dev", "folder": "/work",
    "base": "main", "base_commit": "a" * 40, "token_hash": "h2", "notes": ["A note."],
    "restored": ["3 files are back."],
}  # fmt: skip
SAVE, DROP = "wabcdefg/save/wabcdefg-1", "wabcdefg/drop/wabcdefg-1"
WANTED = a_copy(state=CopyState.WANTED, sha256="", made_at=None, expires_at=None)


def used(**values: Any) -> Workspace:
    """A workspace in which somebody has worked."""
    return a_workspace(
        **{"run_id": None, "base_commit": "a" * 40, "container": "c1", "token_hash": "h", **values}
    )


def stopping(**values: Any) -> Workspace:
    return used(**{"state": WorkspaceState.STOPPING, "deadline_at": at(CLOCKS.save_s), **values})


def written(planned: Planned, kind: type) -> Any:
    (found,) = [
        change.noun
        for change in planned.changes
        if isinstance(change, Insert | Update) and isinstance(change.noun, kind)
    ]
    return found


def orders(planned: Planned) -> list[str]:
    return [c.noun.id for c in planned.changes if isinstance(getattr(c, "noun", None), NodeOrder)]


def test_what_was_used_is_saved_before_it_leaves():
    new, (wish,) = leave(used(), (), "stopped", at=at(1), clocks=CLOCKS)
    assert (new.state, new.deadline_at) == (WorkspaceState.STOPPING, at(1 + CLOCKS.save_s))
    assert (wish.noun.id, wish.noun.state, wish.noun.why) == (
        "wabcdefg-1",
        CopyState.WANTED,
        "stopped",
    )


def test_the_next_copy_has_the_next_number():
    known = (a_copy(state=CopyState.RESTORED), a_copy(id="wabcdefg-2", state=CopyState.FAILED))
    _, (wish,) = leave(used(), known, "slept", at=at(1), clocks=CLOCKS)
    assert wish.noun.id == "wabcdefg-3"


@pytest.mark.parametrize(
    ("workspace", "copies", "why", "ends"),
    [
        (a_workspace(state=WorkspaceState.REQUESTED), (), "stopped", WorkspaceState.DELETING),
        (a_workspace(state=WorkspaceState.BUILDING), (), "stopped", WorkspaceState.DELETING),
        (used(state=WorkspaceState.BUILDING), (), "slept", WorkspaceState.STOPPING),
        (used(state=WorkspaceState.REQUESTED), (a_copy(),), "slept", WorkspaceState.STOPPED),
        (used(state=WorkspaceState.BUILDING), (a_copy(),), "stopped", WorkspaceState.STOPPING),
        (used(state=WorkspaceState.BUILDING), (a_copy(),), "deleted", WorkspaceState.DELETING),
        (used(state=WorkspaceState.STOPPED), (a_copy(),), "deleted", WorkspaceState.DELETING),
    ],
)
def test_g4_a_way_out_of_every_state(
    workspace: Workspace, copies: tuple[RescueCopy, ...], why: Any, ends: WorkspaceState
):
    new, changes = leave(workspace, copies, why, at=at(1), clocks=CLOCKS)
    assert new.state is ends
    if why == "deleted":
        (discarded,) = [change.noun for change in changes]
        assert (discarded.why, discarded.expires_at) == ("deleted", at(1 + CLOCKS.copy_s))


def test_a_copy_is_ordered_once_and_waited_for():
    planned = plan_workspace(view(stopping(), copies=(WANTED,)))
    assert orders(planned) == [SAVE]
    assert planned.due_in_s == CLOCKS.save_s - 10
    waiting = view(stopping(), an_answer(SAVE, ok=None), copies=(WANTED,))
    assert plan_workspace(waiting).changes == ()
    assert made_copy(waiting) is None


def test_n8_nothing_is_removed_before_the_copy_is_kept():
    made = view(stopping(), an_answer(SAVE, result=SAVED), copies=(WANTED,))
    assert plan_workspace(made).changes == ()
    saved = made_copy(made)
    assert saved is not None
    planned = brought_in(made, saved, Stored(sha256=SHA, size_bytes=7))
    kept = written(planned, RescueCopy)
    assert (kept.state, kept.sha256, kept.branch, kept.left_out_count) == (
        *(CopyState.KEPT, SHA),
        *("topic", 3),
    )
    assert kept.expires_at == at(10 + CLOCKS.copy_s)
    assert orders(planned) == []
    assert written(planned, Workspace).state is WorkspaceState.STOPPING


def test_a_newer_copy_ends_the_time_of_those_that_were_put_back():
    older = a_copy(state=CopyState.RESTORED)
    wanted = replace(WANTED, id="wabcdefg-2")
    answer = an_answer("wabcdefg/save/wabcdefg-2", result=SAVED)
    made = view(stopping(), answer, copies=(older, wanted))
    saved = made_copy(made)
    assert saved is not None
    planned = brought_in(made, saved, Stored(sha256=SHA, size_bytes=7))
    found = [c.noun for c in planned.changes if isinstance(getattr(c, "noun", None), RescueCopy)]
    assert [(copy.id, copy.state, copy.expires_at) for copy in found] == [
        ("wabcdefg-2", CopyState.KEPT, at(10 + CLOCKS.copy_s)),
        ("wabcdefg-1", CopyState.RESTORED, at(10)),
    ]


def test_n8_what_is_kept_is_removed_and_then_rests_on_no_machine():
    kept = view(stopping(deadline_at=None), copies=(a_copy(),))
    (removal,) = [change.noun for change in plan_workspace(kept).changes]
    assert (removal.id, removal.body["keeps_volumes"]) == ("wabcdefg/delete/1", True)
    made = an_answer(SAVE, result=SAVED)
    done = view(stopping(), made, an_answer("wabcdefg/delete/1"), copies=(a_copy(),))
    planned = plan_workspace(done)
    assert orders(planned) == [DROP]
    rest = written(planned, Workspace)
    assert (rest.state, rest.node_id, rest.container, rest.token_hash) == (
        *(WorkspaceState.STOPPED, ""),
        *("", ""),
    )
    assert rest.keep_until == written(planned, RescueCopy).expires_at == at(10 + CLOCKS.copy_s)
    woken = {change for change in planned.changes if isinstance(change, Wake)}
    assert {Wake("node", "node-1"), Wake("admission", "all")} <= woken


def test_a_removal_that_fails_is_ordered_again_later_each_time_and_not_for_ever():
    workspace, failed, now, waits = stopping(deadline_at=None), [], 10.0, []
    while len(failed) < REMOVALS_MAX:
        removal = an_answer(
            f"wabcdefg/delete/{workspace.attempt}", ok=False, text="It is busy.",
            created_at=at(now), answered_at=at(now),
        )  # fmt: skip
        failed.append(removal)
        seen = view(workspace, *failed, copies=(a_copy(),), link=a_link(seen_at=at(now)))
        planned = plan_workspace(replace(seen, now=at(now)))
        assert orders(planned) == []
        if len(failed) == REMOVALS_MAX:
            break
        workspace = next((c.noun for c in planned.changes), workspace)
        assert (workspace.state, workspace.code) == (WorkspaceState.STOPPING, "not_removed")
        assert workspace.error.endswith("It is busy.")
        waits.append(planned.due_in_s)
        now += planned.due_in_s or 0
        again = plan_workspace(replace(seen, workspace=workspace, now=at(now)))
        workspace = written(again, Workspace)
        assert orders(again) == [f"wabcdefg/delete/{workspace.attempt}"]
    assert waits == [CLOCKS.stop_s * factor for factor in (1, 2, 4, 8)]
    rests = written(planned, Workspace)
    assert (rests.state, rests.node_id) == (WorkspaceState.STOPPED, "")
    assert "still on node-1 and cannot be removed: It is busy." in rests.error


def test_why_it_was_not_removed_at_first_is_forgotten_once_it_is():
    noted = stopping(deadline_at=None, code="not_removed", error="Not yet.", attempt=2)
    done = an_answer("wabcdefg/delete/2")
    rests = written(plan_workspace(view(noted, done, copies=(a_copy(),))), Workspace)
    assert (rests.state, rests.code, rests.error) == (WorkspaceState.STOPPED, "", "")


def test_a_machine_that_is_away_keeps_nobody_from_resting():
    waiting = an_answer("wabcdefg/delete/1", ok=None)
    lost = view(stopping(), waiting, copies=(a_copy(),), now=at(400))
    assert written(plan_workspace(lost), Workspace).state is WorkspaceState.STOPPED


@pytest.mark.parametrize(
    ("answers", "now", "code"),
    [
        (
            (an_answer(SAVE, ok=False, code="workspace_busy", text="It changes."),),
            10,
            "workspace_busy",
        ),
        ((an_answer(SAVE, ok=False),), 10, "save_failed"),
        ((an_answer(SAVE, ok=None),), CLOCKS.save_s, "save_timeout"),
        ((an_answer(SAVE, result=SAVED),), CLOCKS.save_s, "save_timeout"),
    ],
)
def test_g4_what_cannot_be_saved_goes_on_and_says_why(
    answers: tuple[NodeOrder, ...], now: float, code: str
):
    seen = view(stopping(), *answers, copies=(WANTED,), now=at(now))
    assert made_copy(replace(seen, now=at(CLOCKS.save_s))) is None
    planned = plan_workspace(seen)
    again, failed = written(planned, Workspace), written(planned, RescueCopy)
    assert (again.state, again.code) == (WorkspaceState.BUILDING, code)
    assert again.error.startswith("It was not stopped, because its work could not be saved")
    asleep = plan_workspace(replace(seen, copies=(replace(WANTED, why="slept"),)))
    assert written(asleep, Workspace).error.startswith("It does not sleep, because its work")
    assert failed.state is CopyState.FAILED
    sure = plan_workspace(view(again, copies=(failed,), now=at(now), link=a_link(seen_at=at(now))))
    (name,) = orders(sure)
    assert name == "wabcdefg/create/1/None/1", "its containers were stopped for the copy"
    done = view(again, an_answer(name, result=READY), copies=(failed,), now=at(now))
    ready = written(plan_workspace(done), Workspace)
    assert (ready.state, ready.error) == (WorkspaceState.READY, again.error)
    assert ready.keep_until == at(now + CLOCKS.warm_s)
    broken = an_answer(name, ok=False, code="build_failed", text="No.")
    stays = written(plan_workspace(view(again, broken, copies=(failed,), now=at(now))), Workspace)
    assert (stays.state, stays.code) == (WorkspaceState.READY, "build_failed")


def test_g4_a_copy_that_the_machine_has_lost_is_no_copy():
    made = view(stopping(), an_answer(SAVE, result=SAVED), copies=(WANTED,))
    planned = not_saved(made, "copy_lost")
    assert written(planned, Workspace).state is WorkspaceState.BUILDING
    assert written(planned, RescueCopy).state is CopyState.FAILED


def test_what_is_idle_falls_asleep_and_not_again_at_once_when_it_could_not():
    idle = used(keep_until=at(5))
    asleep = plan_workspace(view(idle))
    assert written(asleep, Workspace).state is WorkspaceState.STOPPING
    assert written(asleep, RescueCopy).why == "slept"
    failed = a_copy(state=CopyState.FAILED, state_since=at(4))
    later = plan_workspace(view(idle, copies=(failed,)))
    assert (later.changes, later.due_in_s) == ((), CLOCKS.publish_s - 6)
    drained = view(idle, copies=(failed,), node=a_node(state=NodeState.DRAINING))
    assert plan_workspace(drained).changes == ()


def test_what_is_on_a_machine_that_is_away_waits_for_it():
    planned = plan_workspace(view(used(keep_until=at(5)), now=at(400)))
    assert (planned.changes, planned.due_in_s) == ((), CLOCKS.lost_s)


def resting(**values: Any) -> Workspace:
    return used(state=WorkspaceState.STOPPED, node_id="", keep_until=at(100), **values)


def test_what_rests_is_kept_for_its_time_and_then_goes():
    kept = view(resting(), node=None, copies=(a_copy(),))
    assert (plan_workspace(kept).changes, plan_workspace(kept).due_in_s) == ((), 90)
    over = written(plan_workspace(replace(kept, now=at(100))), Workspace)
    assert over.state is WorkspaceState.DELETING
    gone = plan_workspace(view(over, node=None, copies=(a_copy(),)))
    assert written(gone, Workspace).state is WorkspaceState.GONE


@pytest.mark.parametrize("state", [WorkspaceState.REQUESTED, WorkspaceState.BUILDING])
def test_g4_a_restart_that_fails_when_its_time_was_over_leaves_all_of_it_again(
    state: WorkspaceState,
):
    old = a_copy(expires_at=at(-5))
    node = a_node() if state is WorkspaceState.BUILDING else None
    workspace = wished(state=state, node_id="node-1" if node else "", deadline_at=at(5))
    none, copies = Placement(node=None, reason="none"), (old,)
    removed = an_answer("wabcdefg/delete/2")
    for _ in range(3):
        seen = view(workspace, removed, node=node, placement=none, copies=copies)
        planned = plan_workspace(seen)
        for change in planned.changes:
            noun = getattr(change, "noun", None)
            workspace = noun if isinstance(noun, Workspace) else workspace
            copies = (noun,) if isinstance(noun, RescueCopy) else copies
        node = node if workspace.node_id else None
    assert workspace.state is WorkspaceState.STOPPED
    assert workspace.keep_until == copies[0].expires_at == at(10 + CLOCKS.copy_s)


def test_its_people_hear_of_the_end_before_it_comes_and_once():
    ends, notice = 2 * CLOCKS.copy_notice_s, CLOCKS.copy_notice_s
    thread = Thread(id="web:web:1", surface="web", channel="web", created_at=NOW)
    rests = view(
        replace(resting(), keep_until=at(ends)), node=None, copies=(a_copy(),),
        task=a_task(), thread=thread,
    )  # fmt: skip
    early = plan_workspace(rests)
    assert (early.changes, early.due_in_s) == ((), notice - 10)
    soon = plan_workspace(replace(rests, now=at(notice)))
    assert soon.due_in_s == notice
    (post,) = [change for change in soon.changes if isinstance(change, Insert)]
    assert (post.noun.lane, post.noun.mention, post.once) == ("web:web:1", "ana", True)
    assert "removed on 11 January at 12:00 UTC" in post.noun.text
    assert "`restart workspace`" in post.noun.text
    by_hand = plan_workspace(replace(rests, now=at(notice), task=None, thread=None))
    assert (by_hand.changes, by_hand.due_in_s) == ((), notice)


def wished(**values: Any) -> Workspace:
    return used(
        **{
            "state": WorkspaceState.REQUESTED,
            "node_id": "",
            "attempt": 2,
            "container": "",
            "deadline_at": at(900),
            **values,
        }
    )


def test_a_restart_takes_a_machine_with_room_and_puts_the_copy_back():
    room = Placement(node=a_node(id="node-2"), reason="room")
    planned = plan_workspace(view(wished(), node=None, placement=room, copies=(a_copy(),)))
    building = written(planned, Workspace)
    assert (building.state, building.node_id) == (WorkspaceState.BUILDING, "node-2")
    assert building.deadline_at == at(10 + CLOCKS.workspace_s)
    order = written(planned, NodeOrder)
    assert (order.id, order.node_id) == ("wabcdefg/create/2/None", "node-2")
    assert order.body["restore"] == SHA
    assert written(planned, type(a_node())).active_at == at(10), "nobody else takes the room"


def test_without_room_it_wishes_for_a_machine_or_lets_somebody_sleep():
    none = Placement(node=None, reason="none")
    new = a_node(id="node-9", state=NodeState.REQUESTED)
    asked = plan_workspace(view(wished(), node=None, placement=none, new_node=new))
    assert written(asked, type(new)).id == "node-9"
    assert asked.due_in_s == CLOCKS.stale_s
    idle = used(id="wother")
    full = Placement(node=None, reason="full", is_full=True, idle=idle)
    let_go = plan_workspace(view(wished(), node=None, placement=full))
    assert written(let_go, Workspace) == replace(idle, keep_until=at(10))
    waits = plan_workspace(view(wished(deadline_at=at(5)), node=None, placement=full))
    assert written(waits, Workspace).deadline_at == at(10 + CLOCKS.node_ready_s)


def test_without_a_machine_in_time_it_rests_again_and_a_new_one_goes():
    none = Placement(node=None, reason="none")
    late = wished(deadline_at=at(5))
    back = written(
        plan_workspace(view(late, node=None, placement=none, copies=(a_copy(),))), Workspace
    )
    assert (back.state, back.code) == (WorkspaceState.STOPPED, "no_machine")
    new = wished(deadline_at=at(5), base_commit="")
    gone = written(plan_workspace(view(new, node=None, placement=none)), Workspace)
    assert (gone.state, gone.code) == (WorkspaceState.DELETING, "no_machine")


def restoring(**values: Any) -> Workspace:
    return used(
        **{
            "state": WorkspaceState.BUILDING,
            "attempt": 2,
            "container": "",
            "deadline_at": at(1800),
            **values,
        }
    )


CREATED = "wabcdefg/create/2/None"


def test_what_is_back_says_what_came_back_and_stays_a_while():
    answer = an_answer(CREATED, result=READY)
    planned = plan_workspace(view(restoring(), answer, copies=(a_copy(),)))
    ready = written(planned, Workspace)
    assert (ready.state, ready.notes) == (WorkspaceState.READY, ("A note.", "3 files are back."))
    assert ready.keep_until == at(10 + CLOCKS.warm_s)
    restored = written(planned, RescueCopy)
    assert (restored.state, restored.expires_at) == (
        *(CopyState.RESTORED,),
        at(10 + CLOCKS.copy_s),
    )
    assert ready.active_at is None
    by_hand = view(restoring(active_at=at(1)), answer, copies=(a_copy(),))
    awaited = written(plan_workspace(by_hand), Workspace)
    assert awaited.active_at == at(10), "who asked for it has it now"


def test_g4_a_restart_that_fails_leaves_the_copy_and_saves_nothing_over_it():
    failed = an_answer(CREATED, ok=False, code="copy_refused", text="It does not fit.")
    planned = plan_workspace(view(restoring(), failed, copies=(a_copy(),)))
    leaving = written(planned, Workspace)
    assert (leaving.state, leaving.code) == (WorkspaceState.STOPPING, "copy_refused")
    assert not any(isinstance(getattr(c, "noun", None), RescueCopy) for c in planned.changes)
    removed = an_answer("wabcdefg/delete/2")
    rest = written(plan_workspace(view(leaving, removed, copies=(a_copy(),))), Workspace)
    assert (rest.state, rest.error) == (WorkspaceState.STOPPED, "It does not fit.")


def test_g4_a_rebuild_that_fails_saves_what_is_there():
    failed = an_answer(CREATED, ok=False, code="build_failed", text="No.")
    planned = plan_workspace(view(restoring(container="c1"), failed))
    assert written(planned, Workspace).state is WorkspaceState.STOPPING
    assert written(planned, RescueCopy).state is CopyState.WANTED


def test_g4_a_rebuild_on_a_machine_that_is_away_throws_nothing_away():
    planned = plan_workspace(view(restoring(container="c1"), now=at(400)))
    stays = written(planned, Workspace)
    assert (stays.state, stays.code) == (WorkspaceState.READY, "node_lost")


@pytest.mark.parametrize(
    ("workspace", "copies", "ends"),
    [
        (used(), (), "gone"),
        (stopping(), (WANTED,), "gone"),
        (stopping(), (a_copy(),), "stopped"),
        (stopping(), (a_copy(why="deleted"),), "gone"),
        (restoring(), (a_copy(),), "stopped"),
        (wished(node_id="node-1"), (a_copy(),), "stopped"),
    ],
)
def test_a_machine_that_is_gone_takes_along_only_what_was_not_kept(
    workspace: Workspace, copies: tuple[RescueCopy, ...], ends: str
):
    for _ in range(3):
        gone = a_node(state=NodeState.GONE)
        seen = view(workspace, copies=copies, node=gone if workspace.node_id else None)
        planned = plan_workspace(seen)
        for change in planned.changes:
            noun = getattr(change, "noun", None)
            if isinstance(noun, Workspace):
                workspace = noun
            elif isinstance(noun, RescueCopy):
                copies = (noun,)
    assert workspace.state == ends
    if copies and copies[0].id == WANTED.id and ends == "gone":
        assert copies[0].state in {CopyState.FAILED, CopyState.KEPT}


def test_a_copy_that_its_machine_made_and_that_never_came_in_is_dropped_there():
    made, failed = an_answer(SAVE, result=SAVED), a_copy(state=CopyState.FAILED, sha256="")
    planned = plan_workspace(view(used(keep_until=at(900)), made, copies=(failed,)))
    order = written(planned, NodeOrder)
    assert (order.id, order.body["sha256"]) == (DROP, SHA)
    dropped = an_answer(DROP, ok=None)
    seen = view(used(keep_until=at(900)), made, dropped, copies=(failed,))
    assert plan_workspace(seen).changes == ()
    next_one = replace(WANTED, id="wabcdefg-2")
    saving = an_answer("wabcdefg/save/wabcdefg-2", ok=None)
    seen = view(stopping(), made, saving, copies=(failed, next_one))
    assert plan_workspace(seen).changes == (), "the next one may have the same content"


def test_what_was_thrown_away_goes_without_a_copy():
    gone, (unmade,) = thrown_away(stopping(), (WANTED,), "root", at=at(1), clocks=CLOCKS)
    assert (gone.state, gone.discarded_by) == (WorkspaceState.DELETING, "root")
    assert (unmade.noun.state, unmade.noun.error) == (CopyState.FAILED, NO_COPY)
    removal = written(plan_workspace(view(gone, copies=(unmade.noun,))), NodeOrder)
    assert removal.body["discard"] is True
    kept = stopping(deadline_at=None)
    saved, (copy,) = thrown_away(kept, (a_copy(),), "root", at=at(1), clocks=CLOCKS)
    assert (saved.discarded_by, copy.noun.why) == (None, "deleted"), "it costs the machine nothing"


def test_deleting_what_stops_already_ends_it_once_it_is_kept():
    discarded = a_copy(why="deleted")
    planned = plan_workspace(view(stopping(), copies=(discarded,)))
    assert written(planned, Workspace).state is WorkspaceState.DELETING
    assert written(planned, RescueCopy).expires_at == at(10 + CLOCKS.copy_s)
