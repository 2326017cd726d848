"""Large copies come in part by part, and nothing of them is fetched twice."""

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import pytest

import core.rescue
from adapters.memory.files import MemoryFiles
from core.branch import is_branch_name
from core.engine import LOOK_S
from core.errors import UnavailableError
from core.ids import NodeId
from core.rescue import PART_S, bring_in
from tests.fakes.clock import FakeClock

CONTENT = b"tea" * 10
NAME = hashlib.sha256(CONTENT).hexdigest()


class OneNode:
    """A node with one copy; `offsets` are where it was asked to begin."""

    def __init__(self, sends: Callable[[], None] = lambda: None) -> None:
        self.offsets: list[int] = []
        self._sends = sends

    async def stream(
        self, node: str, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        self.offsets.append(offset_bytes)
        for at in range(offset_bytes, len(CONTENT), 3):
            self._sends()
            yield CONTENT[at : at + 3]


async def test_a_large_copy_is_the_work_of_several_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.rescue, "PART_BYTES", 12)
    files, node, clock = MemoryFiles(), OneNode(), FakeClock()
    for _ in range(2):
        with pytest.raises(UnavailableError) as more:
            await bring_in(files, node, NodeId("node-1"), NAME, clock=clock)
        assert more.value.retry_after_s == 0.1
    stored = await bring_in(files, node, NodeId("node-1"), NAME, clock=clock)
    assert (stored.sha256, stored.size_bytes) == (NAME, 30)
    assert node.offsets == [0, 12, 24]
    assert await bring_in(files, node, NodeId("node-1"), NAME, clock=clock) == stored
    assert len(node.offsets) == 3


async def test_a_slow_machine_is_heard_out_part_by_part() -> None:
    assert PART_S < LOOK_S / 2, "the last part is read back in the same look"
    files, clock = MemoryFiles(), FakeClock()
    node = OneNode(lambda: clock.advance(PART_S / 5))
    looks = 0
    while await files.find(NAME) is None:
        looks += 1
        with suppress(UnavailableError):
            await bring_in(files, node, NodeId("node-1"), NAME, clock=clock)
    assert (looks, node.offsets) == (3, [0, 12, 24])


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
