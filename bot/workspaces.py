"""What people can ask for in workspaces: look at them, open terminals, type."""

import secrets
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from bot.deciding import check, existing, write
from bot.doors import WorkspaceDoors
from bot.lifecycle import OVER, gone, not_ready
from bot.recordings import RecordingCommands
from bot.warm import WarmView
from core.access import Person, may
from core.chat import Chat
from core.errors import NotFoundError, QuotaError, UserError
from core.ids import TerminalId, WorkspaceId
from core.plan.step import told
from core.ports.commands import CopyView, TerminalView, WorkspaceView
from core.ports.store import AtMost, Change, Insert, Reader, Tell, Update, Wake
from core.rescue import CURRENT, RescueCopy
from core.terminal import LIVE, Terminal, TerminalState
from core.viewing import View
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace, WorkspaceState

log = structlog.get_logger(__name__)

Tab = TypeVar("Tab", Chat, Terminal)
TITLE_CHARS_MAX = 60
TERMINALS_MAX = 20
"""Terminals of one workspace at once. A shell and its screen take a few megabytes there."""
OPEN_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceCommands(RecordingCommands):
    """The part of `core.ports.commands.Commands` that is about workspaces and terminals."""

    doors: WorkspaceDoors

    async def workspaces(self, actor: Person) -> Sequence[WorkspaceView]:
        """See `Commands.workspaces`."""
        check(actor, "look")
        return await self.store.snapshot(_seen)

    async def workspace(self, actor: Person, workspace: WorkspaceId) -> WorkspaceView:
        """See `Commands.workspace`."""
        check(actor, "look")
        return await self.store.snapshot(lambda reader: _one(reader, workspace))

    async def workspace_link(self, actor: Person, workspace: WorkspaceId) -> str:
        """See `Commands.workspace_link`."""
        check(actor, "look")
        found = await existing(self.store, Workspace, workspace, "workspace")
        _check_there(found)
        return f"/enter?link={await self.doors.link(actor.id, workspace)}"

    async def terminals(self, actor: Person, workspace: WorkspaceId) -> Sequence[TerminalView]:
        """See `Commands.terminals`."""
        check(actor, "look")
        await existing(self.store, Workspace, workspace, "workspace")
        return [terminal_view(tab) for tab in await _tabs(self.store, workspace)]

    async def open_terminal(
        self, actor: Person, workspace: WorkspaceId, *, title: str = ""
    ) -> TerminalView:
        """See `Commands.open_terminal`."""
        check(actor, "steer")
        found, tabs = await self.store.snapshot(lambda reader: at_home(reader, workspace))
        check_ready(found)
        new = self.new_terminal(actor, found, tabs, title=title_of(title) or _next_title(tabs))
        with full(workspace):
            await self.store.commit(*opening(new, found))
        return terminal_view(new)

    def new_terminal(
        self, actor: Person, home: Workspace, tabs: Sequence[Terminal], *, title: str
    ) -> Terminal:
        """Return the next tab of a workspace."""
        now = self.clock.now()
        return Terminal(
            id=TerminalId(f"t-{secrets.token_hex(4)}"),
            workspace_id=home.id,
            title=title,
            position=max((tab.position for tab in tabs), default=-1) + 1,
            opened_by=actor.id,
            state=TerminalState.OPENING,
            state_since=now,
            created_at=now,
            container=home.container,
        )

    async def change_terminal(
        self,
        actor: Person,
        terminal: TerminalId,
        *,
        title: str | None = None,
        position: int | None = None,
    ) -> None:
        """See `Commands.change_terminal`. Places count from 0; one past the end is the last."""
        check(actor, "steer")

        async def changes() -> Sequence[Change]:
            workspace, tabs = await self.store.snapshot(lambda reader: _around(reader, terminal))
            found = next(tab for tab in tabs if tab.id == terminal)
            updates = arranged(tabs, found, title=title, position=position)
            return [*updates, self._changed(actor, workspace, found)] if updates else []

        await write(self.store, changes)

    async def close_terminal(self, actor: Person, terminal: TerminalId) -> None:
        """See `Commands.close_terminal`."""
        check(actor, "steer")

        async def changes() -> Sequence[Change]:
            found = await existing(self.store, Terminal, terminal, "terminal")
            if found.is_hidden:
                return []
            hidden = replace(found, is_hidden=True)
            workspace = await self.store.get(Workspace, found.workspace_id)
            fact = self._changed(actor, workspace, found)
            if found.state in {TerminalState.WAITING, TerminalState.OPENING, TerminalState.OPEN}:
                now = self.clock.now()
                hidden = hidden.moved(TerminalState.CLOSING, at=now)
                subject = f"terminal:{terminal}"
                fact = told(
                    "terminal.closing",
                    subject,
                    at=now,
                    task_id=workspace.task_id or None,
                    by=actor.id,
                )
            return [Update(hidden), fact, Wake("terminal", terminal)]

        await write(self.store, changes)

    def _changed(self, actor: Person, workspace: Workspace, terminal: Terminal) -> Tell:
        return told(
            "terminal.changed",
            f"terminal:{terminal.id}",
            at=self.clock.now(),
            task_id=workspace.task_id or None,
            by=actor.id,
        )

    @asynccontextmanager
    async def view_terminal(self, actor: Person, terminal: TerminalId) -> AsyncGenerator[View]:
        """See `Commands.view_terminal`. Waits for one that is being opened."""
        check(actor, "look")
        found = await self._opened(terminal)
        workspace = await self.store.get(Workspace, found.workspace_id)
        _check_there(workspace)
        if found.state is TerminalState.WAITING:
            raise UserError("It opens when the agent is idle.", code="terminal_waiting")
        if found.state is TerminalState.EXITED and found.error:
            raise UserError(found.error, code="terminal_over")
        async with self.nodes_link.view(
            workspace.node_id,
            workspace.id,
            terminal,
            viewer=actor.name,
            writes=may(actor, "steer"),
        ) as view:
            yield WarmView(view, lambda: self.keep(workspace.id), clock=self.clock)

    async def _opened(self, terminal: TerminalId) -> Terminal:
        found, waited_s = await _tab(self.store, terminal), 0.0
        while found.state is TerminalState.OPENING and waited_s < 2 * self.clocks.terminal_s:
            await self.clock.sleep(OPEN_LOOK_S)
            waited_s += OPEN_LOOK_S
            found = await _tab(self.store, terminal)
        return found


async def _tab(reader: Reader, terminal: TerminalId) -> Terminal:
    """Return a terminal whose tab is there."""
    found = await existing(reader, Terminal, terminal, "terminal")
    if found.is_hidden:
        raise NotFoundError(f"Terminal {terminal} was closed. Open another one.")
    return found


async def _tabs(reader: Reader, workspace: WorkspaceId) -> list[Terminal]:
    """Return the terminals of a workspace that have a tab, from left to right."""
    found = await reader.find(Terminal, workspace_id=workspace, is_hidden=False)
    return sorted(found, key=lambda tab: (tab.position, tab.created_at, tab.id))


async def at_home(reader: Reader, workspace: WorkspaceId) -> tuple[Workspace, list[Terminal]]:
    """Return a workspace and its tabs."""
    found = await existing(reader, Workspace, workspace, "workspace")
    return found, await _tabs(reader, workspace)


async def _around(reader: Reader, terminal: TerminalId) -> tuple[Workspace, list[Terminal]]:
    return await at_home(reader, (await _tab(reader, terminal)).workspace_id)


def check_ready(found: Workspace) -> None:
    """Refuse a workspace in which nothing can be opened."""
    _check_there(found)
    if found.state is not WorkspaceState.READY:
        raise not_ready(found)


def opening(new: Terminal, home: Workspace) -> Sequence[Change]:
    """Return the changes that open a terminal; there are not too many is counted with them."""
    live = (("workspace_id", home.id), ("state", LIVE))
    limit = AtMost(number=TERMINALS_MAX, where=live, code="terminals")
    subject, at, task = f"terminal:{new.id}", new.created_at, home.task_id or None
    if new.state is TerminalState.WAITING:
        fact = told("terminal.waiting", subject, at=at, task_id=task, by=new.opened_by)
    else:
        fact = told("terminal.opening", subject, at=at, task_id=task, by=new.opened_by)
    return [Insert(new, limits=(limit,)), fact, Wake("terminal", new.id)]


@contextmanager
def full(workspace: WorkspaceId) -> Generator[None]:
    """Say in people's words that a workspace has too many terminals."""
    try:
        yield
    except QuotaError as error:
        said = f"There are {TERMINALS_MAX} terminals in {workspace} already. Close one first."
        raise QuotaError(said, code="terminals") from error


def arranged(
    tabs: Sequence[Tab], found: Tab, *, title: str | None, position: int | None
) -> list[Update]:
    """Return the updates that give a tab another title or place; the others make room."""
    order = [tab for tab in tabs if tab.id != found.id]
    place = next((n for n, tab in enumerate(tabs) if tab.id == found.id), len(order))
    order.insert(
        place if position is None else max(0, position),
        replace(found, title=title_of(title or "") or found.title),
    )
    placed = [replace(tab, position=n) for n, tab in enumerate(order)]
    return [Update(tab) for tab in placed if tab not in tabs]


def title_of(text: str) -> str:
    """Return what can be a title of what was said; empty for nothing that can be seen."""
    return "".join(c for c in text if c.isprintable()).strip()[:TITLE_CHARS_MAX].strip()


def _next_title(tabs: Sequence[Terminal]) -> str:
    taken, number = {tab.title for tab in tabs}, 1
    while (title := "Shell" if number == 1 else f"Shell {number}") in taken:
        number += 1
    return title


def _check_there(workspace: Workspace) -> None:
    """Raise `UserError` for a workspace that is on no machine any more."""
    if workspace.state in OVER:
        raise gone(workspace)
    if workspace.state is WorkspaceState.STOPPED:
        raise not_ready(workspace)


async def _seen(reader: Reader) -> Sequence[WorkspaceView]:
    """Return the workspaces that are not gone, with the copies that hold their work."""
    found = await reader.find(Workspace, state=LIVE_WORKSPACES)
    copies = {copy.workspace_id: copy for copy in await reader.find(RescueCopy, state=CURRENT)}
    places = await _places(reader)
    return [_workspace(one, copies.get(one.id), places.get(one.id, 0)) for one in found]


async def _one(reader: Reader, workspace: WorkspaceId) -> WorkspaceView:
    found = await existing(reader, Workspace, workspace, "workspace")
    copies = await reader.find(RescueCopy, workspace_id=workspace, state=CURRENT)
    places = await _places(reader)
    return _workspace(found, copies[0] if copies else None, places.get(workspace, 0))


async def _places(reader: Reader) -> Mapping[WorkspaceId, int]:
    """Return the place of each workspace that waits for a machine, from 1."""
    waiting = await reader.find(Workspace, state=WorkspaceState.REQUESTED, node_id="")
    in_order = sorted(waiting, key=lambda one: (one.state_since, one.id))
    return {one.id: number for number, one in enumerate(in_order, 1)}


def copy_view(copy: RescueCopy) -> CopyView:
    """Return what people see of a rescue copy."""
    return CopyView(
        id=copy.id,
        workspace_id=copy.workspace_id,
        project=copy.project,
        task_id=copy.task_id,
        why=copy.why,
        state=copy.state,
        branch=copy.branch,
        head=copy.head,
        size_bytes=copy.size_bytes,
        made_at=copy.made_at,
        expires_at=copy.expires_at,
        left_out=copy.left_out,
        left_out_count=copy.left_out_count,
    )


def terminal_view(tab: Terminal) -> TerminalView:
    """Return a tab as surfaces get it."""
    return TerminalView(
        id=tab.id,
        workspace_id=tab.workspace_id,
        title=tab.title,
        position=tab.position,
        state=tab.state,
        session_id=tab.session_id,
        exit_code=tab.exit_code,
        error=tab.error,
    )


def _workspace(found: Workspace, copy: RescueCopy | None, place: int) -> WorkspaceView:
    return WorkspaceView(
        id=found.id,
        project=found.project,
        task_id=found.task_id,
        node_id=found.node_id,
        state=found.state,
        branch=found.branch,
        recovered=found.recovered,
        error=found.error,
        keep_until=found.keep_until,
        steps=found.steps,
        notes=found.notes,
        size=found.size,
        place=place,
        copy=None if copy is None else copy_view(copy),
    )
