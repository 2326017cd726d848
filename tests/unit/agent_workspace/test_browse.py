"""Looking into a checkout that strangers have filled."""

import json
import os
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.browse import read_file, read_folder, sources
from agent.errors import NodeError
from core.browse import ENTRIES_MAX, Changes, Listing
from core.ids import WorkspaceId
from core.wire import OpenStream, from_json

NAME = st.binary(min_size=1, max_size=20).filter(
    lambda name: not {0, 0x2F} & set(name) and name not in {b".", b".."}
)


async def content(root: Path, path: str) -> bytes:
    return b"".join([chunk async for chunk in read_file(root, path)])


async def test_a_folder_tells_its_folders_first_and_what_each_is(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("12345")
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    listing = read_folder(tmp_path, "")
    assert [(e.name, e.kind) for e in listing.entries] == [
        ("b", "folder"),
        ("a.txt", "file"),
        ("link", "link"),
        ("pipe", "other"),
    ]
    assert listing.entries[1].size == 5


@pytest.mark.parametrize(
    "path",
    [
        *("../secret", "..", "a/../../secret", "out/secret", "out", "%2e%2e/secret"),
        *("..%2fsecret", "file/below", "nope", "a%00b", "pipe", "a", ""),
    ],
)
async def test_nothing_outside_and_nothing_that_is_no_file_is_read(
    tmp_path: Path, path: str
) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "file").touch()
    (tmp_path / "secret").write_text("canary")
    (root / "out").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    with pytest.raises(NodeError, match="There is no"):
        await content(root, path)


@pytest.mark.parametrize("path", ["out", "..", "out/x", "file"])
async def test_no_folder_outside_is_listed(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x").mkdir()
    (root / "file").touch()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(NodeError, match="There is no"):
        read_folder(root, path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(NAME, min_size=1, max_size=3), st.binary(max_size=300_000))
async def test_a_file_of_any_name_comes_back_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], data: bytes
) -> None:
    root = tmp_path_factory.mktemp("root")
    path = root.joinpath(*map(os.fsdecode, names))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    walked = ""
    for depth in range(len(names)):
        (entry,) = read_folder(root, walked).entries
        assert entry.name == quote_from_bytes(names[depth])
        walked += f"/{entry.name}"
    assert await content(root, walked) == data


async def test_a_folder_of_very_many_says_that_there_are_more(tmp_path: Path) -> None:
    for number in range(ENTRIES_MAX + 1):
        (tmp_path / str(number)).touch()
    listing = read_folder(tmp_path, "")
    assert (len(listing.entries), listing.is_cut) == (ENTRIES_MAX, True)


def asking(name: str) -> OpenStream:
    return OpenStream(ticket="", what="", name=name)


class ATree:
    """Workspaces of which one has one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []

    async def folder(self, workspace: WorkspaceId, path: str) -> Listing:
        self.asked.append(workspace)
        return read_folder(self.root, path)

    def file(self, workspace: WorkspaceId, path: str):
        return read_file(self.root, path)

    async def changes(self, workspace: WorkspaceId) -> Changes:
        return Changes(base="c0ffee", diff="é" * 100_000)


async def test_what_is_asked_for_by_name_comes_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_text("hello")
    offered = sources(ATree(tmp_path))
    file = [chunk async for chunk in offered["file"](asking("wabcdefg/sub/x"))]
    assert file == [b"hello"]
    text = b"".join([chunk async for chunk in offered["folder"](asking("wabcdefg/sub/"))])
    assert [e.name for e in from_json(Listing, json.loads(text)).entries] == ["x"]
    pieces = [chunk async for chunk in offered["changes"](asking("wabcdefg"))]
    assert len(pieces) > 1
    assert from_json(Changes, json.loads(b"".join(pieces))).base == "c0ffee"


@pytest.mark.parametrize("name", ["../x/a", "/a", "", ".", "a b/c"])
async def test_a_workspace_that_cannot_be_is_asked_nothing(tmp_path: Path, name: str) -> None:
    tree = ATree(tmp_path)
    with pytest.raises(NodeError, match="no such workspace"):
        await anext(sources(tree)["folder"](asking(name)))
    assert tree.asked == []
