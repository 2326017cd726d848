"""Recordings: taken from their node, kept, watched, removed; on both databases."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from core.access import Person
from core.engine import Reconciler
from core.errors import NotFoundError, UnavailableError, UserError
from core.ids import NodeId, RecordingId, SessionId, TerminalId
from core.plan.recording import wanted
from core.ports.commands import RecordingView
from core.ports.store import Wake
from core.reconcile.recordings import RecordingReconciler, RecordingSweep
from core.recording import LIFE, Recording, RecordingState
from core.terminal import TerminalState
from core.workspace import Workspace, WorkspaceState
from tests.fakes.asciicast import read
from tests.fakes.desk import REPLICA, Desk
from tests.fakes.nouns import (
    CLOCKS,
    SESSION,
    a_session,
    a_task,
    a_terminal,
    a_workspace,
    an_event,
)

FILM = b'{"version": 2, "width": 80, "height": 24, "timestamp": 1}\n[0.5, "o", "$ "]\n'
TERMINAL = TerminalId("t-0000aaaa")


class OneNode:
    """A node with recordings. Lever: `is_up`."""

    def __init__(self) -> None:
        self.is_up = True
        self.films = {f"wabcdefg/{TERMINAL}": FILM}
        self.asked = 0

    async def stream(
        self, node: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        self.asked += 1
        assert what == "recording"
        if not self.is_up:
            raise UnavailableError("Node", "it sleeps")
        if name not in self.films:
            raise NotFoundError("it is not there any more")
        yield self.films[name][:20]
        yield self.films[name][20:]


@pytest.fixture
def node(desk: Desk) -> OneNode:
    made = OneNode()
    object.__setattr__(desk.commands, "nodes_link", made)
    return made


@pytest.fixture
async def ana(desk: Desk) -> Person:
    task = a_task()
    await desk.put(task, a_workspace(), a_terminal(state=TerminalState.OPEN, title="Build"))
    return await desk.person("ana")


async def one(desk: Desk, by: Person) -> RecordingView:
    (found,) = await desk.commands.recordings(by, a_task().id)
    return found


async def film(desk: Desk, by: Person, recording: str = TERMINAL) -> bytes:
    async with aclosing(desk.commands.film(by, RecordingId(recording))) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def take(desk: Desk, node: OneNode) -> None:
    """Look at the recordings that are due."""
    looking = RecordingReconciler(
        store=desk.store,
        nodes=node,  # type: ignore[arg-type]  # the one method that is asked
        files=desk.commands.files,
        clock=desk.clock,
        clocks=CLOCKS,
    )
    await look(desk, Wake("recording", TERMINAL), looking)


async def look(desk: Desk, wake: Wake, reconciler: Reconciler) -> None:
    await desk.store.commit(wake)
    for claim in await desk.work.claim(REPLICA, [wake.kind], limit=10):
        await reconciler(claim)
        await desk.work.give_back(claim, due_in_s=None)


async def exited(desk: Desk) -> None:
    terminal = a_terminal(state=TerminalState.OPEN, title="Build")
    await desk.store.commit(*wanted(terminal, at=desk.clock.now()))


async def test_a_terminal_is_watched_from_its_node_and_then_from_the_file_store(
    desk: Desk, ana: Person, node: OneNode
) -> None:
    assert (await one(desk, ana)).state == "live"
    assert await film(desk, ana) == FILM
    await exited(desk)
    await exited(desk)
    await take(desk, node)
    kept = await one(desk, ana)
    assert (kept.state, kept.size_bytes, kept.title) == ("kept", len(FILM), "Build")
    assert kept.expires_at == desk.clock.now() + LIFE
    asked, node.is_up = node.asked, False
    await desk.put(replace(await desk.store.get(Workspace, "wabcdefg"), state=WorkspaceState.GONE))
    assert await film(desk, ana) == FILM
    assert node.asked == asked
    facts = await desk.commands.events(ana, after=0)
    assert [event.kind for event in facts if "recording" in event.kind] == ["recording.kept"]


async def test_a_node_that_is_away_is_asked_again_until_it_is_too_late(
    desk: Desk, ana: Person, node: OneNode
) -> None:
    node.is_up = False
    await exited(desk)
    await take(desk, node)
    assert (await one(desk, ana)).state == "live"
    with pytest.raises(UserError, match="does not answer"):
        await film(desk, ana)
    desk.clock.advance(CLOCKS.publish_s)
    await take(desk, node)
    lost = await one(desk, ana)
    assert (lost.state, lost.error) == ("lost", "Node: it sleeps")
    with pytest.raises(NotFoundError, match="could not be kept: Node: it sleeps"):
        await film(desk, ana)


async def test_what_the_node_has_no_more_is_lost_at_once(
    desk: Desk, ana: Person, node: OneNode
) -> None:
    node.films.clear()
    await exited(desk)
    await take(desk, node)
    assert (await one(desk, ana)).error == "it is not there any more"


async def test_a_recording_goes_when_its_time_is_over_and_another_of_the_same_words_stays(
    desk: Desk, ana: Person, node: OneNode
) -> None:
    await exited(desk)
    await take(desk, node)
    first = await desk.store.get(Recording, TERMINAL)
    other = replace(
        first, id=TerminalId("t-0000bbbb"), expires_at=desk.clock.now() + 2 * LIFE, version=0
    )
    await desk.put(a_terminal(id=other.id, state=TerminalState.EXITED), other)
    sweep = RecordingSweep(store=desk.store, files=desk.commands.files, clock=desk.clock)
    for expired, there in ((0, True), (1, True), (2, False)):
        await look(desk, Wake("recordings", "all"), sweep)
        states = [(await desk.store.get(Recording, n)).state for n in (first.id, other.id)]
        assert states.count(RecordingState.EXPIRED) == expired
        assert (await desk.commands.files.find(first.sha256) is not None) is there
        desk.clock.advance(LIFE.total_seconds())
    with pytest.raises(NotFoundError, match="kept for 30 days"):
        await film(desk, ana)


async def test_a_coding_agent_is_watched_from_our_own_records(
    desk: Desk, ana: Person, node: OneNode
) -> None:
    node.is_up = False
    call = {"tool": "t1", "name": "Bash", "title": "x", "input": {"command": "make"}}
    events = [an_event(n, "message.text", text=f"<{n}>", message="m") for n in range(700)]
    events.append(an_event(700, "tool.start", **call))
    await desk.put(a_session(run_id="T-1.1", task_id="T-1", workspace_id="wabcdefg"))
    await desk.store.append(events)
    shown = await desk.commands.recordings(ana, a_task().id)
    assert [(view.kind, view.state) for view in shown] == [
        ("session", "live"),
        ("terminal", "live"),
    ]
    seen = read((await film(desk, ana, SESSION)).decode())
    assert all(f"<{n}>" in seen.text for n in (0, 499, 500, 699))
    second = await desk.commands.moment(ana, SESSION, 700)
    assert "$ make" in seen.until(second)
    for strange in ("t-ffffffff", "../../etc", ""):
        with pytest.raises(NotFoundError, match="There is no recording"):
            await film(desk, ana, strange)
    with pytest.raises(NotFoundError):
        await desk.commands.moment(ana, SessionId("no"), 0)
