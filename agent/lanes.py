"""Work in order per object, different objects side by side."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Job:
    do: Callable[[], Awaitable[None]]
    overtaken: Callable[[], Awaitable[None]]
    is_overtaken: bool = False
    scope: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))


class Lanes:
    """One queue per key; a queue that is empty is forgotten."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._lanes: dict[str, deque[_Job]] = {}

    def add(
        self,
        key: str,
        do: Callable[[], Awaitable[None]],
        *,
        overtaken: Callable[[], Awaitable[None]],
        ends_others: bool,
    ) -> None:
        """Queue `do` behind what there is for `key`.

        With `ends_others` all that is queued or running there is overtaken first: what is left of
        it is cancelled and its `overtaken` is called instead.
        """
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = deque()
            self._group.create_task(self._work(key, lane))
        if ends_others:
            for job in lane:
                job.is_overtaken = True
                if job is lane[0]:
                    _cancel(job.scope)
        lane.append(_Job(do, overtaken))

    async def _work(self, key: str, lane: deque[_Job]) -> None:
        while lane:
            await _run(lane[0])
            lane.popleft()
        del self._lanes[key]


async def _run(job: _Job) -> None:
    if not job.is_overtaken:
        try:
            async with job.scope:
                await job.do()
        except TimeoutError:
            if not job.scope.expired():
                raise
    if job.is_overtaken:
        await job.overtaken()


def _cancel(scope: asyncio.Timeout) -> None:
    try:
        scope.reschedule(asyncio.get_running_loop().time())
    except RuntimeError:
        return  # It has not begun, or has ended already.
