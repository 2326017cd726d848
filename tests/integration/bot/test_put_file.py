"""Files into a workspace, from the command to the node's word."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.store.store import SqlStore
from agent.upload import put_file
from bot.files import FileCommands
from core.access import Person
from core.errors import ForbiddenError, UserError
from core.ids import PersonId, WorkspaceId
from core.ports.store import Insert, Update
from core.viewing import View
from core.wire import STREAM_CHUNK_BYTES, Pipe, PutFile
from core.workspace import Workspace, WorkspaceState
from tests.fakes.clock import FakeClock
from tests.fakes.nouns import CLOCKS, NOW, a_workspace
from tests.fakes.pipes import PipeNodes

SPACE = WorkspaceId("wabcdefg")
ANA = Person(id=PersonId("ana"), name="Ana", role="member", created_at=NOW)


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "checkout").mkdir()
    return tmp_path / "checkout"


@pytest.fixture
async def nodes(root: Path) -> PipeNodes:
    async def served(wanted: Pipe, pipe: View) -> None:
        assert isinstance(wanted, PutFile)
        await put_file(root, wanted, pipe, uid=0, gid=0)

    return PipeNodes(served=served)


@pytest.fixture
async def commands(store: SqlStore, nodes: PipeNodes) -> FileCommands:
    await store.commit(Insert(a_workspace()))
    return FileCommands(store=store, nodes_link=nodes, clock=FakeClock(NOW), clocks=CLOCKS)


async def test_a_file_arrives_in_pieces_that_a_pipe_takes(
    commands: FileCommands, nodes: PipeNodes, root: Path
) -> None:
    large = bytes(range(256)) * 1000
    assert len(large) > 2 * STREAM_CHUNK_BYTES
    await commands.put_file(ANA, SPACE, "a%20b", chunks(large, b"", b"end"), size_bytes=256_003)
    assert (root / "a b").read_bytes() == large + b"end"
    (wanted,) = nodes.asked
    assert wanted == PutFile(ticket="", workspace=SPACE, path="a%20b", size_bytes=256_003)


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("there", "file_exists", "there is there already and was left as it is."),
        ("no/where", "no_such_file", "There is no folder for no/where in the workspace."),
        ("%FF/", "bad_name", "\ufffd/ is no name for a file"),
    ],
)
async def test_what_the_node_refuses_is_said_and_nothing_is_read(
    commands: FileCommands, root: Path, path: str, code: str, words: str
) -> None:
    (root / "there").write_bytes(b"old")
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"x"

    with pytest.raises(UserError) as refused:
        await commands.put_file(ANA, SPACE, path, body())
    assert refused.value.code == code
    assert str(refused.value).startswith(words)
    assert not read


async def test_a_sender_that_is_cut_leaves_nothing(commands: FileCommands, root: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await commands.put_file(ANA, SPACE, "a", cut())
    assert list(root.iterdir()) == []


async def test_a_machine_that_does_not_answer_and_a_person_who_may_not(
    commands: FileCommands, nodes: PipeNodes
) -> None:
    with pytest.raises(ForbiddenError):
        await commands.put_file(replace(ANA, role="viewer"), SPACE, "a", chunks())
    nodes.is_up = False
    with pytest.raises(UserError) as refused:
        await commands.put_file(ANA, SPACE, "a", chunks())
    assert refused.value.code == "node_away"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (WorkspaceState.STOPPING, "Restart it when it is stopped."),
        (WorkspaceState.BUILDING, "Try again when it is."),
        (WorkspaceState.DELETING, "was deleted"),
    ],
)
async def test_g4_a_workspace_whose_copy_would_miss_the_file_takes_none(
    commands: FileCommands,
    nodes: PipeNodes,
    store: SqlStore,
    state: WorkspaceState,
    words: str,
) -> None:
    known = await store.get(Workspace, SPACE)
    await store.commit(Update(replace(known, state=state)))
    with pytest.raises(UserError, match=words):
        await commands.put_file(ANA, SPACE, "a", chunks(b"x"))
    assert nodes.asked == []


async def test_a_workspace_stays_awake_while_a_file_is_sent_into_it(
    commands: FileCommands, store: SqlStore
) -> None:
    soon = NOW + timedelta(seconds=60)
    known = await store.get(Workspace, SPACE)
    await store.commit(Update(replace(known, run_id=None, keep_until=soon)))

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"
            commands.clock.advance(45)

    await commands.put_file(ANA, SPACE, "a", slowly())
    kept = (await store.get(Workspace, SPACE)).keep_until
    assert kept == commands.clock.now() + timedelta(seconds=CLOCKS.warm_s)
