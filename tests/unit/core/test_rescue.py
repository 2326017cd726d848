"""Large copies come in part by part, and nothing of them is fetched twice."""

import hashlib
from collections.abc import AsyncGenerator

import pytest

import core.rescue
from adapters.memory.files import MemoryFiles
from core.branch import is_branch_name
from core.errors import UnavailableError
from core.ids import NodeId
from core.rescue import bring_in

CONTENT = b"tea" * 10
NAME = hashlib.sha256(CONTENT).hexdigest()


class OneNode:
    """A node with one copy; `offsets` are where it was asked to begin."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    async def stream(
        self, node: str, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        self.offsets.append(offset_bytes)
        for at in range(offset_bytes, len(CONTENT), 3):
            yield CONTENT[at : at + 3]


async def test_a_large_copy_is_the_work_of_several_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.rescue, "PART_BYTES", 12)
    files, node = MemoryFiles(), OneNode()
    for _ in range(2):
        with pytest.raises(UnavailableError) as more:
            await bring_in(files, node, NodeId("node-1"), NAME)
        assert more.value.retry_after_s == 0.1
    stored = await bring_in(files, node, NodeId("node-1"), NAME)
    assert (stored.sha256, stored.size_bytes) == (NAME, 30)
    assert node.offsets == [0, 12, 24]
    assert await bring_in(files, node, NodeId("node-1"), NAME) == stored
    assert len(node.offsets) == 3


@pytest.mark.parametrize("name", ["main", "feature/günther-2", "v1.2", "a@b", "x" * 200])
def test_names_that_git_takes(name: str) -> None:
    assert is_branch_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "@", "HEAD", "-x", "/x", "x/", ".x", "x.", "a..b", "a//b", "a b", "a~1", "a^", "a:b"),
        *("a?", "a*", "a[b", "a\\b", "a@{b", "a/.b", "x.lock", "x.lock/y", "a\nb", "a\x7f"),
        *("x" * 201, "a\u202eb"),
    ],
)
def test_c10_names_that_git_does_not_take(name: str) -> None:
    assert not is_branch_name(name)
