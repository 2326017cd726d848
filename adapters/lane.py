"""A few threads of its own for each SDK that blocks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """Runs blocking calls of one outside system, beside the event loop and beside other lanes.

    A call that hangs takes one of these threads and nobody else's. Giving up on a call does not
    stop its thread: the call may still take effect, so the caller writes down what it is about to
    do first, and the SDK has socket time limits that end the thread.
    """

    def __init__(self, name: str, *, workers: int, timeout_s: float) -> None:
        """Describe the lane.

        Args:
            name: Shown in the threads' names.
            workers: How many calls run at once; others wait in line.
            timeout_s: From the call to its result, the wait in line included.
        """
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._timeout_s = timeout_s

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `call` returns.

        Raises:
            TimeoutError: If it takes longer than the lane's limit.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        future.add_done_callback(_heard)
        return await asyncio.wait_for(asyncio.shield(future), self._timeout_s)

    def close(self) -> None:
        """Take no more calls and forget those in line. Running ones end by their own limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _heard(future: "asyncio.Future[T]") -> None:
    """Look at an abandoned call's error, so that asyncio does not report it as never seen."""
    if not future.cancelled():
        future.exception()
