"""What this node is doing: takes orders from the spool, in order per workspace or session."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from agent import disk
from agent.driver import Program
from agent.errors import NodeError
from agent.lanes import Lanes
from agent.place import Place
from agent.sessions import Sessions
from agent.spool import Spool
from core.ids import SessionId, WorkspaceId
from core.wire import (
    FRAME_BYTES_MAX,
    AnswerQuestion,
    Checked,
    CloseTerminal,
    Collect,
    Collected,
    CreateWorkspace,
    DeleteWorkspace,
    DropCopy,
    FrameError,
    HandOver,
    Interrupt,
    Json,
    OpenTerminal,
    Order,
    OrderAnswer,
    OrderBody,
    Push,
    Pushed,
    RunChecks,
    Saved,
    SaveWorkspace,
    SendPrompt,
    StartSession,
    StopSession,
    TakeBack,
    WorkspaceReady,
    encode_body,
    to_json,
)

log = logging.getLogger(__name__)

ENDS_OTHERS = frozenset({DeleteWorkspace.KIND, StopSession.KIND, CloseTerminal.KIND})
"""Orders that do not wait for earlier ones of their object: those are overtaken."""
ANSWER_BYTES_MAX = FRAME_BYTES_MAX // 4

Result = WorkspaceReady | Saved | Collected | Checked | Pushed | None


class WorkspaceKeeper(Protocol):
    """The workspaces of this node. Every method may be called again after a crash in it."""

    def ids(self) -> Sequence[WorkspaceId]:
        """Return the workspaces that were made and not deleted."""
        ...

    async def create(self, order: CreateWorkspace) -> WorkspaceReady:
        """Make sure that a workspace is there and running."""
        ...

    async def save(self, order: SaveWorkspace) -> Saved:
        """Make a rescue copy of a workspace in which nothing of ours runs any more."""
        ...

    async def drop(self, order: DropCopy) -> None:
        """Remove a rescue copy; gone already is fine."""
        ...

    async def delete(self, workspace: WorkspaceId, *, discards: bool = False) -> None:
        """Remove a workspace, and all work in it if a person discards that; gone is fine."""
        ...

    async def place(self, workspace: WorkspaceId) -> Place:
        """Return where processes of a workspace run."""
        ...

    async def collect(self, order: Collect) -> Collected:
        """Take the commits out of a workspace."""
        ...

    async def check(self, order: RunChecks) -> Checked:
        """Run checks in a fresh container."""
        ...

    async def push(self, order: Push) -> Pushed:
        """Push a commit to its branch."""
        ...

    async def run(self) -> None:
        """Adopt what is there, then serve until cancelled."""
        ...


class TerminalKeeper(Protocol):
    """The terminals of this node. `has_adopted` is set once those of an earlier life are known."""

    has_adopted: asyncio.Event

    async def open(self, order: OpenTerminal, program: Program | None = None) -> None:
        """Make sure that a terminal is there; without a program it is the user's own shell."""
        ...

    async def close(self, order: CloseTerminal) -> None:
        """End a terminal; gone already is fine."""
        ...

    async def close_all(self, workspace: WorkspaceId) -> None:
        """Close the terminals of a workspace."""
        ...

    async def end_all(self, workspace: WorkspaceId) -> None:
        """End what runs in the terminals of a workspace; they stay."""
        ...

    async def take_in(self, workspace: WorkspaceId) -> None:
        """Know the terminals that came back with a workspace."""
        ...

    async def run(self) -> None:
        """Adopt what is there, then serve until cancelled."""
        ...


_OfSession = StartSession | SendPrompt | AnswerQuestion | Interrupt | StopSession | TakeBack


class Host:
    """Carries out orders and answers them through the spool.

    An order whose answer is not stored is carried out again after a restart, so every doer makes
    sure of a state instead of adding to it.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        workspaces: WorkspaceKeeper,
        sessions: Sessions,
        terminals: TerminalKeeper,
    ) -> None:
        self._spool = spool
        self._workspaces = workspaces
        self._sessions = sessions
        self._terminals = terminals
        self._making: set[str] = set()
        self._made = asyncio.Event()

    def workspaces(self) -> Sequence[WorkspaceId]:
        """Return the workspaces of this node."""
        return self._workspaces.ids()

    def sessions(self) -> Sequence[SessionId]:
        """Return the agent sessions that are driven now."""
        return self._sessions.ids()

    async def run(self) -> None:
        """Adopt what is there, then take orders until cancelled; nothing that runs is stopped."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._workspaces.run())
            group.create_task(self._sessions.run())
            group.create_task(self._terminals.run())
            await self._sessions.has_adopted.wait()
            await self._terminals.has_adopted.wait()
            await self._take(Lanes(group))

    async def _take(self, lanes: Lanes) -> None:
        taken = 0
        while True:
            self._spool.orders_added.clear()
            for seq, order in await self._spool.unanswered(after=taken):
                taken = seq
                if order.kind == CreateWorkspace.KIND:
                    self._making.add(str(order.body.get("workspace")))
                lanes.add(
                    _about(order),
                    partial(self._carry_out, order),
                    overtaken=partial(self._give_up, order),
                    ends_others=order.kind in ENDS_OTHERS,
                )
            await self._spool.orders_added.wait()

    async def _carry_out(self, order: Order) -> None:
        try:
            result = await self._do(order.read())
            answer = OrderAnswer(order=order.id, ok=True, result=_plain(result))
        except Exception as error:  # noqa: BLE001  our own bug must not hold up the other orders
            answer = self._why(order, error)
        if len(encode_body(answer)) > ANSWER_BYTES_MAX:
            answer = _failed(order, "answer_too_long", "the answer does not fit on the link")
        await self._spool.answer(answer)
        self._is_made(order)
        log.info("order.answered", extra={"order": order.id, "code": answer.code or "ok"})

    def _why(self, order: Order, error: Exception) -> OrderAnswer:
        """Say why an order failed. A full disk has many faces, and most of them are not ours."""
        is_said = isinstance(error, NodeError) and error.code == "disk_full"
        if disk.is_full(error) and not is_said:
            error = disk.full(self._spool.folder)
        if isinstance(error, NodeError):
            return _failed(order, error.code, error.text)
        if isinstance(error, FrameError):
            return _failed(order, "unreadable_order", str(error)[:300])
        log.error("order.crashed", extra={"order": order.id}, exc_info=error)
        return _failed(order, "node_bug", f"{type(error).__name__}: {error}"[:300])

    async def _give_up(self, order: Order) -> None:
        await self._spool.answer(_failed(order, "overtaken", "a later order ended this object"))
        self._is_made(order)

    def _is_made(self, order: Order) -> None:
        """Let the terminals go on that wait for the making of their workspace."""
        if order.kind == CreateWorkspace.KIND:
            self._making.discard(str(order.body.get("workspace")))
            self._made.set()

    async def _do(self, body: OrderBody) -> Result:
        match body:
            case CreateWorkspace():
                ready = await self._workspaces.create(body)
                await self._terminals.take_in(body.workspace)
                return ready
            case SaveWorkspace():
                await self._sessions.stop_all(body.workspace)
                await self._terminals.end_all(body.workspace)
                return await self._workspaces.save(body)
            case Collect():
                return await self._workspaces.collect(body)
            case RunChecks():
                return await self._workspaces.check(body)
            case Push():
                return await self._workspaces.push(body)
            case _:
                await self._do_silently(body)
                return None

    async def _do_silently(
        self,
        body: DeleteWorkspace | DropCopy | OpenTerminal | CloseTerminal | HandOver | _OfSession,
    ) -> None:
        """Do what has no result but that it was done."""
        match body:
            case DeleteWorkspace():
                await self._terminals.close_all(body.workspace)
                await self._workspaces.delete(body.workspace, discards=body.discards)
            case DropCopy():
                await self._workspaces.drop(body)
            case OpenTerminal():
                while body.workspace in self._making:
                    self._made.clear()
                    await self._made.wait()
                await self._terminals.open(body)
            case CloseTerminal():
                await self._terminals.close(body)
            case HandOver():
                program = await self._sessions.hand_over(body)
                wanted = OpenTerminal(workspace=body.workspace, terminal=body.terminal)
                await self._terminals.open(wanted, program)
            case _:
                await self._do_in_session(body)

    async def _do_in_session(self, body: _OfSession) -> None:
        match body:
            case StartSession():
                await self._sessions.start(body)
            case SendPrompt():
                await self._sessions.prompt(body)
            case AnswerQuestion():
                await self._sessions.answer(body)
            case Interrupt():
                await self._sessions.interrupt(body)
            case StopSession():
                await self._sessions.stop(body)
            case TakeBack():
                await self._sessions.take_back(body)


def _about(order: Order) -> str:
    """Return whose turn it is: the session, terminal or workspace, else the order's own object.

    A terminal does not wait for what is done in its workspace, except for its making.
    """
    for key in ("session", "terminal", "workspace"):
        if isinstance(order.body.get(key), str):
            return f"{key}:{order.body[key]}"
    return order.object


def _plain(result: Result) -> Json:
    return {} if result is None else to_json(result)


def _failed(order: Order, code: str, text: str) -> OrderAnswer:
    return OrderAnswer(order=order.id, ok=False, code=code, text=text)
