"""A lane's threads are its own, and its callers wait no longer than they said."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adapters.lane import Lane


@contextmanager
def lane(*, workers: int = 1, timeout_s: float = 10) -> Iterator[Lane]:
    made = Lane("test", workers=workers, timeout_s=timeout_s)
    yield made
    made.close()


async def test_a_call_returns_what_it_returns_or_raises() -> None:
    with lane() as made:
        assert await made.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await made.run(divmod, 7, 0)


async def test_calls_run_in_threads_of_that_name() -> None:
    with lane() as made:
        assert (await made.run(lambda: threading.current_thread().name)).startswith("test")


async def test_a_hung_call_is_given_up_and_still_ends_by_itself() -> None:
    go, ended = threading.Event(), threading.Event()

    def hang() -> None:
        go.wait(10)
        ended.set()

    with lane(timeout_s=0.05) as made:
        with pytest.raises(TimeoutError):
            await made.run(hang)
        assert not ended.is_set()
        go.set()
        assert await asyncio.to_thread(ended.wait, 10)


async def test_a_full_lane_keeps_others_in_line_and_the_loop_free() -> None:
    go = threading.Event()
    with lane(workers=2) as made:
        async with asyncio.TaskGroup() as group:
            hung = [group.create_task(made.run(go.wait, 10)) for _ in range(2)]
            third = group.create_task(made.run(lambda: "third"))
            await asyncio.sleep(0)
            assert not third.done()
            go.set()
        assert [task.result() for task in hung] == [True, True]
        assert third.result() == "third"


async def test_an_abandoned_call_that_fails_late_is_no_noise() -> None:
    go = threading.Event()

    def fail_late() -> None:
        go.wait(10)
        raise OSError("late")

    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    with lane(timeout_s=0.02) as made:
        with pytest.raises(TimeoutError):
            await made.run(fail_late)
        go.set()
        await Lane("other", workers=1, timeout_s=5).run(lambda: None)
    assert noise == []
