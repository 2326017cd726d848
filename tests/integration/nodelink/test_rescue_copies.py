"""Rescue copies on their way between node and file store, over real connections that are cut."""

import hashlib
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from adapters.disk.files import DiskFiles
from adapters.nodelink.files import NodeFiles
from adapters.system import SecretBox, SystemClock
from agent.errors import NodeError
from agent.fetch import fetched
from agent.files import Layout
from agent.streams import Streams, file_sources
from core.errors import NotFoundError, RefusedError, UnavailableError
from core.ids import NodeId
from core.ports.files import Stored
from core.rescue import bring_in
from core.wire import OpenStream
from tests.fakes.node_link import NODE, ControlPlane, attached, control_plane
from tests.fakes.serving import until

CONTENT = random.Random(1).randbytes(3_500_000)
NAME = hashlib.sha256(CONTENT).hexdigest()
OTHER = NodeId("node-0000bbbb")


def store(folder: Path) -> DiskFiles:
    return DiskFiles(folder / "files", SecretBox({"1": b"k" * 32}))


class CutNodes:
    """Nodes whose streams are cut after some bytes."""

    def __init__(self, plane: ControlPlane, *, after: int) -> None:
        self._plane = plane
        self._after = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._plane.link, name)

    async def stream(
        self, node: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        left = self._after
        stream = self._plane.link.stream(node, what, name, offset_bytes=offset_bytes)
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                if (left := left - len(piece)) < 0:
                    raise UnavailableError("Node", "the stream was cut")
                yield piece


async def brought_in(files: DiskFiles, nodes: Any, name: str = NAME) -> Stored:
    return await bring_in(files, nodes, NODE, name, clock=SystemClock())


@dataclass
class Node:
    plane: ControlPlane
    asked: list[OpenStream] = field(default_factory=list)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[Node]:
    """A node with one copy that has dialled in."""
    layout = Layout(state=tmp_path / "node")
    layout.rescue.mkdir(parents=True)
    layout.copy(NAME).write_bytes(CONTENT)
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(control_plane())
        token = plane.store.add_node(NODE)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        streams = Streams(client, plane.url, lambda: token, file_sources(layout))
        made = Node(plane)

        async def serve(wanted: OpenStream) -> None:
            made.asked.append(wanted)
            await streams.serve(wanted)

        await stack.enter_async_context(attached(plane.url, token, tmp_path / "n", serve=serve))
        await until(lambda: NODE in plane.link.connected())
        yield made


async def test_a_copy_comes_in_piece_by_piece_over_streams_that_are_cut(
    node: Node, tmp_path: Path
) -> None:
    files = store(tmp_path)
    cut = CutNodes(node.plane, after=1_500_000)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await brought_in(files, cut)
    stored = await brought_in(files, cut)
    assert (stored.sha256, stored.size_bytes) == (NAME, len(CONTENT))
    offsets = [wanted.offset_bytes for wanted in node.asked]
    assert offsets == sorted(set(offsets)), "some of it was sent twice"
    async with aclosing(files.get(NAME)) as pieces:
        assert b"".join([piece async for piece in pieces]) == CONTENT
    assert await brought_in(files, cut) == stored
    assert len(node.asked) == 3, "it is there and was asked for again"


@pytest.mark.parametrize("name", ["cd" * 32, "../node.json", NAME[:-1]])
async def test_a_copy_that_the_node_has_not_is_not_found(
    node: Node, tmp_path: Path, name: str
) -> None:
    with pytest.raises(NotFoundError):
        await brought_in(store(tmp_path), node.plane.link, name)


async def test_a_node_that_sends_another_content_leaves_nothing(node: Node, tmp_path: Path) -> None:
    files, wrong = store(tmp_path), "ab" * 32
    Layout(state=tmp_path / "node").copy(wrong).write_bytes(CONTENT)
    with pytest.raises(ValueError, match="SHA-256"):
        await brought_in(files, node.plane.link, wrong)
    assert await files.find(wrong) is None
    assert await files.kept_bytes(wrong) == 0


async def test_a_file_that_cannot_be_read_any_more_is_brought_in_anew(
    node: Node, tmp_path: Path
) -> None:
    files = store(tmp_path)
    stored = await brought_in(files, node.plane.link)
    (tmp_path / "files" / NAME).write_bytes(b"as a bad disk left it")
    with pytest.raises(RefusedError):
        await files.find(NAME)
    assert await brought_in(files, node.plane.link) == stored
    async with aclosing(files.get(NAME)) as pieces:
        assert b"".join([piece async for piece in pieces]) == CONTENT


# To a node


class CutFiles(DiskFiles):
    """A store that gives a mebibyte and a half and then fails, so often."""

    cuts = 0

    async def get(self, sha256: str, *, offset_bytes: int = 0) -> AsyncGenerator[bytes]:
        left = 1_500_000
        async with aclosing(super().get(sha256, offset_bytes=offset_bytes)) as pieces:
            async for piece in pieces:
                if self.cuts and (left := left - len(piece)) < 0:
                    self.cuts -= 1
                    raise UnavailableError("File store", "cut")
                yield piece


@dataclass
class Shelf:
    plane: ControlPlane
    files: CutFiles
    layout: Layout
    client: aiohttp.ClientSession

    async def fetch(self, token: str, name: str = NAME) -> bytes:
        url, layout = self.plane.url, self.layout
        async with fetched(self.client, url, lambda: token, layout, name, pause_s=0.01) as copy:
            return copy.read_bytes()


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncGenerator[Shelf]:
    """A control plane that keeps a copy for `NODE`."""
    files = CutFiles(tmp_path / "files", SecretBox({"1": b"k" * 32}))

    async def content() -> AsyncGenerator[bytes]:
        yield CONTENT

    await files.put(content())

    async def may_fetch(node: NodeId, sha256: str) -> bool:
        return node == NODE

    async with (
        control_plane(files=NodeFiles(files, may_fetch)) as plane,
        aiohttp.ClientSession() as client,
    ):
        yield Shelf(plane, files, Layout(state=tmp_path / "node"), client)


async def test_c1_a_node_fetches_files_of_its_own_workspaces_alone(shelf: Shelf) -> None:
    token, other = shelf.plane.store.add_node(NODE), shelf.plane.store.add_node(OTHER)
    for wrong in (other, "nothing", ""):
        with pytest.raises(NodeError) as refused:
            await shelf.fetch(wrong)
        assert refused.value.code == "copy_missing"
    with pytest.raises(NodeError):
        await shelf.fetch(token, "ab" * 32)
    assert await shelf.fetch(token) == CONTENT
    assert not list(shelf.layout.scratch.glob("*")), "a copy that was fetched goes after its use"
    assert not shelf.layout.copy(NAME).exists()


async def test_a_node_uses_its_own_copy_which_may_be_dropped_meanwhile(shelf: Shelf) -> None:
    own = shelf.layout.copy(NAME)
    own.parent.mkdir(parents=True)
    own.write_bytes(CONTENT)
    nobody = fetched(shelf.client, shelf.plane.url, lambda: "", shelf.layout, NAME)
    async with nobody as copy:
        own.unlink()
        assert copy.read_bytes() == CONTENT
    assert not list(shelf.layout.scratch.glob("*"))


async def test_a_fetch_goes_on_where_it_was_cut(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    token = shelf.plane.store.add_node(NODE)
    shelf.files.cuts = 2
    assert await shelf.fetch(token) == CONTENT
    assert shelf.files.cuts == 0


async def test_a_range_that_cannot_be_is_refused_and_another_kind_is_not_looked_at(
    shelf: Shelf,
) -> None:
    token = shelf.plane.store.add_node(NODE)
    url = f"{shelf.plane.url}/node/v1/files/{NAME}"
    for asked, status, size in (
        (f"bytes={len(CONTENT)}-", 416, 0),
        (f"bytes={len(CONTENT) - 5}-", 206, 5),
        ("bytes=-5", 200, len(CONTENT)),
        ("bytes=1-2,4-5", 200, len(CONTENT)),
        ("lines=1-", 200, len(CONTENT)),
    ):
        headers = {"Authorization": f"Bearer {token}", "Range": asked}
        async with shelf.client.get(url, headers=headers) as answer:
            assert (answer.status, len(await answer.read())) == (status, size), asked
