"""The agent sessions of this node: started once, adopted after a restart, one driver each."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from agent.driver import BROKEN, AgentDriver, Program
from agent.errors import NodeError
from agent.place import Place
from agent.spool import Spool
from core.ids import SessionId, WorkspaceId
from core.wire import (
    AnswerQuestion,
    HandOver,
    Interrupt,
    SendPrompt,
    StartSession,
    StopSession,
    TakeBack,
    encode_body,
    from_json,
)

log = logging.getLogger(__name__)

STARTED = "host.started"
"""Note with the order of a session that has not ended; emptied at its end."""
CRASHES_MAX = 5
"""A driver that crashes so often in a row is left alone until the node agent starts again."""
CALM_S = 60.0
CRASH_BACK_OFF_S = 1.0
LOOK_S = 0.05

Make = Callable[[StartSession, Place], AgentDriver]
"""Makes the driver of a session in its place."""


@dataclass(slots=True)
class _Live:
    order: StartSession
    driver: AgentDriver
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the driver's `run` is over, by an end or a crash; each driver has its own."""
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """Starts, finds and drives agent sessions. `run` must be running.

    Attributes:
        has_adopted: Set when the sessions of the previous life have their drivers again.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        place: Callable[[WorkspaceId], Awaitable[Place]],
        make: Make,
        crash_back_off_s: float = CRASH_BACK_OFF_S,
    ) -> None:
        self._spool = spool
        self._place = place
        self._make = make
        self._crash_back_off_s = crash_back_off_s
        self._live: dict[SessionId, _Live] = {}
        self._group: asyncio.TaskGroup | None = None
        self.has_adopted = asyncio.Event()

    def ids(self) -> Sequence[SessionId]:
        """Return the sessions that are driven now."""
        return list(self._live)

    async def run(self) -> None:
        """Adopt what was started before, then drive sessions until cancelled.

        Cancelling lets go of the coding agents without touching them.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            for session, text in (await self._spool.noted(STARTED)).items():
                order = from_json(StartSession, json.loads(text))
                try:
                    self._drive(order, await self._place(order.workspace))
                except NodeError as error:
                    log.warning(
                        "session.not_adopted", extra={"session": session, "reason": str(error)}
                    )
            self.has_adopted.set()
            await asyncio.Event().wait()

    async def start(self, order: StartSession) -> None:
        """Make sure that the coding agent runs for this run, and answers.

        Raises:
            NodeError: It cannot be started.
        """
        live = self._live.get(order.session)
        if live is not None and live.order.run != order.run:
            await self.stop(StopSession(session=order.session))
            live = None
        if live is None:
            place = await self._place(order.workspace)
            await self._spool.note(order.session, STARTED, encode_body(order))
            live = self._drive(order, place)
        await _ask(live, lambda driver: driver.started())

    async def prompt(self, order: SendPrompt) -> None:
        """See `AgentDriver.prompt`."""
        live = self._find(order.session)
        await _ask(live, lambda driver: driver.prompt(order.prompt, order.text))

    async def answer(self, order: AnswerQuestion) -> None:
        """See `AgentDriver.answer`."""
        live = self._find(order.session)
        await _ask(
            live,
            lambda driver: driver.answer(
                order.request, allow=order.allow, answers=order.answers, message=order.message
            ),
        )

    async def interrupt(self, order: Interrupt) -> None:
        """See `AgentDriver.interrupt`; a session that has ended has nothing to stop."""
        live = self._live.get(order.session)
        if live is not None:
            await _ask(live, lambda driver: driver.interrupt())

    async def hand_over(self, order: HandOver) -> Program:
        """See `AgentDriver.hand_over`; return what the terminal runs."""
        live = self._find(order.session)
        await _ask(live, lambda driver: driver.hand_over(order.terminal))
        return live.driver.program()

    async def take_back(self, order: TakeBack) -> None:
        """See `AgentDriver.take_back`."""
        live = self._find(order.session)
        await _ask(live, lambda driver: driver.take_back(order.terminal))

    async def stop(self, order: StopSession) -> None:
        """See `AgentDriver.stop`; ended already is no error. Asks until it is sure."""
        while live := self._live.get(order.session) or await self._find_again(order.session):
            try:
                await _ask(live, lambda driver: driver.stop())
            except NodeError as error:  # It ended meanwhile, or nobody can tell: look again.
                log.info(
                    "session.not_stopped", extra={"session": order.session, "reason": str(error)}
                )
                await asyncio.sleep(self._crash_back_off_s)
            else:
                await live.has_ended.wait()
                await self._spool.note(order.session, STARTED, "")

    async def stop_all(self, workspace: WorkspaceId) -> None:
        """Stop the sessions of a workspace; see `stop`."""
        for text in (await self._spool.noted(STARTED)).values():
            order = from_json(StartSession, json.loads(text))
            if order.workspace == workspace:
                await self.stop(StopSession(session=order.session))

    def _find(self, session: SessionId) -> _Live:
        live = self._live.get(session)
        if live is None:
            raise NodeError(
                "session_ended",
                "The coding agent is not running any more; reply to start it again.",
            )
        return live

    async def _find_again(self, session: SessionId) -> _Live | None:
        """Drive a session once more that could not be adopted or whose driver was given up."""
        text = (await self._spool.notes(session)).get(STARTED)
        if not text:
            return None
        order = from_json(StartSession, json.loads(text))
        try:
            return self._drive(order, await self._place(order.workspace))
        except NodeError as error:
            log.info("session.gone", extra={"session": session, "reason": str(error)})
            await self._spool.note(session, STARTED, "")
            return None

    def _drive(self, order: StartSession, place: Place) -> _Live:
        if self._group is None:
            raise RuntimeError("Sessions.run is not running")
        live = self._live[order.session] = _Live(order, self._make(order, place))
        self._group.create_task(self._follow(live, place))
        return live

    async def _follow(self, live: _Live, place: Place) -> None:
        """Drive a session to its end. When the node agent ends before, the session goes on."""
        await self._drive_on(live, place)
        del self._live[live.order.session]
        live.has_ended.set()
        live.is_over.set()

    async def _drive_on(self, live: _Live, place: Place) -> None:
        order, crashes = live.order, 0
        loop = asyncio.get_running_loop()
        while crashes < CRASHES_MAX:
            began = loop.time()
            try:
                await live.driver.run()
            except NodeError as error:  # Its processes may be there: the note stays.
                log.warning(
                    "session.failed", extra={"session": order.session, "reason": str(error)}
                )
                return
            except Exception:  # A bug of the driver: the coding agent itself goes on.
                log.exception("session.driver_crashed", extra={"session": order.session})
            else:
                await self._spool.note(order.session, STARTED, "")
                return
            live.is_over.set()
            crashes = 1 if loop.time() - began > CALM_S else crashes + 1
            await asyncio.sleep(self._crash_back_off_s * 2**crashes)
            live.driver, live.is_over = self._make(order, place), asyncio.Event()


async def _ask(live: _Live, ask: Callable[[AgentDriver], Coroutine[object, object, None]]) -> None:
    """Ask the session's driver; the next one again when this one crashes meanwhile.

    Raises:
        NodeError: What the driver raises; `session_ended` when there is no next one.
    """
    while not live.has_ended.is_set():
        driver, is_over = live.driver, live.is_over
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_caught(ask(driver)))
            over = group.create_task(is_over.wait())
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if not task.done():
                task.cancel()
        error = None if task.cancelled() else task.result()
        is_broken = isinstance(error, NodeError) and error.code == BROKEN
        if not task.cancelled() and not is_broken:
            if error is not None:
                raise error
            return
        while live.driver is driver and not live.has_ended.is_set():  # noqa: ASYNC110  seldom
            await asyncio.sleep(LOOK_S)
    raise NodeError("session_ended", "The coding agent ended meanwhile; reply to start it again.")


async def _caught(doing: Coroutine[object, object, None]) -> Exception | None:
    """Return what `doing` raises: a task group would wrap it."""
    try:
        await doing
    except Exception as error:  # noqa: BLE001  raised again by the caller
        return error
    return None
