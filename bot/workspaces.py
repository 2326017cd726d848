"""What people can ask for in workspaces: look at them, open terminals, type."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from bot.deciding import check, existing, write
from bot.doors import WorkspaceDoors
from bot.files import FileCommands
from bot.warm import WarmView
from core.access import Person, may
from core.clocks import Clock, Clocks
from core.errors import ConflictError, NotFoundError, QuotaError, UnavailableError, UserError
from core.ids import TerminalId, WorkspaceId
from core.plan.step import told
from core.ports.commands import TerminalView, WorkspaceView
from core.ports.store import AtMost, Change, Insert, Reader, Tell, Update, Wake
from core.terminal import LIVE, Terminal, TerminalState
from core.viewing import View
from core.workspace import Workspace, WorkspaceState

log = structlog.get_logger(__name__)

TITLE_CHARS_MAX = 60
TERMINALS_MAX = 20
"""Terminals of one workspace at once. A shell and its screen take a few megabytes there."""
OPEN_LOOK_S = 0.05
_LIVE_WORKSPACES = tuple(state for state in WorkspaceState if state is not WorkspaceState.GONE)
_OVER = frozenset({WorkspaceState.DELETING, WorkspaceState.GONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceCommands(FileCommands):
    """The part of `core.ports.commands.Commands` that is about workspaces and terminals."""

    doors: WorkspaceDoors
    clock: Clock
    clocks: Clocks

    async def workspaces(self, actor: Person) -> Sequence[WorkspaceView]:
        """See `Commands.workspaces`."""
        check(actor, "look")
        found = await self.store.find(Workspace, state=_LIVE_WORKSPACES)
        return [_workspace(one) for one in found]

    async def workspace(self, actor: Person, workspace: WorkspaceId) -> WorkspaceView:
        """See `Commands.workspace`."""
        check(actor, "look")
        return _workspace(await existing(self.store, Workspace, workspace, "workspace"))

    async def delete_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """See `Commands.delete_workspace`."""
        check(actor, "manage")

        async def changes() -> Sequence[Change]:
            found = await existing(self.store, Workspace, workspace, "workspace")
            if found.run_id is not None:
                raise UserError(f"A run works in {workspace}. Stop it first.", code="busy")
            now = self.clock.now()
            return [Update(replace(found, keep_until=now)), Wake("workspace", workspace)]

        await write(self.store, changes)

    async def workspace_link(self, actor: Person, workspace: WorkspaceId) -> str:
        """See `Commands.workspace_link`."""
        check(actor, "look")
        found = await existing(self.store, Workspace, workspace, "workspace")
        if found.state in _OVER:
            raise _gone(found)
        return f"/enter?link={await self.doors.link(actor.id, workspace)}"

    async def terminals(self, actor: Person, workspace: WorkspaceId) -> Sequence[TerminalView]:
        """See `Commands.terminals`."""
        check(actor, "look")
        await existing(self.store, Workspace, workspace, "workspace")
        return [_terminal(tab) for tab in await _tabs(self.store, workspace)]

    async def open_terminal(
        self, actor: Person, workspace: WorkspaceId, *, title: str = ""
    ) -> TerminalView:
        """See `Commands.open_terminal`."""
        check(actor, "steer")
        found, tabs = await self.store.snapshot(lambda reader: _home(reader, workspace))
        if found.state in _OVER:
            raise _gone(found)
        if found.state is not WorkspaceState.READY:
            raise UserError(
                f"{workspace} is not ready yet: it is {found.state}. Try again when it is.",
                code="workspace_not_ready",
            )
        now = self.clock.now()
        new = Terminal(
            id=TerminalId(f"t-{secrets.token_hex(4)}"),
            workspace_id=workspace,
            title=_title(title) or _next_title(tabs),
            position=max((tab.position for tab in tabs), default=-1) + 1,
            opened_by=actor.id,
            state=TerminalState.OPENING,
            state_since=now,
            created_at=now,
            container=found.container,
        )
        live = (("workspace_id", workspace), ("state", LIVE))
        limit = AtMost(number=TERMINALS_MAX, where=live, code="terminals")
        fact = told(
            "terminal.opening", f"terminal:{new.id}", at=now, task_id=found.task_id, by=actor.id
        )
        try:
            await self.store.commit(Insert(new, limits=(limit,)), fact, Wake("terminal", new.id))
        except QuotaError as error:
            full = f"There are {TERMINALS_MAX} terminals in {workspace} already. Close one first."
            raise QuotaError(full, code="terminals") from error
        return _terminal(new)

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
            place = next(n for n, tab in enumerate(tabs) if tab.id == terminal)
            found = tabs[place]
            order = [tab for tab in tabs if tab.id != terminal]
            order.insert(
                place if position is None else max(0, position),
                replace(found, title=_title(title or "") or found.title),
            )
            placed = [replace(tab, position=n) for n, tab in enumerate(order)]
            updates = [Update(tab) for tab in placed if tab not in tabs]
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
            if found.state in {TerminalState.OPENING, TerminalState.OPEN}:
                now = self.clock.now()
                hidden = hidden.moved(TerminalState.CLOSING, at=now)
                subject = f"terminal:{terminal}"
                fact = told(
                    "terminal.closing", subject, at=now, task_id=workspace.task_id, by=actor.id
                )
            return [Update(hidden), fact, Wake("terminal", terminal)]

        await write(self.store, changes)

    def _changed(self, actor: Person, workspace: Workspace, terminal: Terminal) -> Tell:
        return told(
            "terminal.changed",
            f"terminal:{terminal.id}",
            at=self.clock.now(),
            task_id=workspace.task_id,
            by=actor.id,
        )

    @asynccontextmanager
    async def view_terminal(self, actor: Person, terminal: TerminalId) -> AsyncGenerator[View]:
        """See `Commands.view_terminal`. Waits for one that is being opened."""
        check(actor, "look")
        found = await self._opened(terminal)
        workspace = await self.store.get(Workspace, found.workspace_id)
        if workspace.state in _OVER:
            raise _gone(workspace)
        if found.state is TerminalState.EXITED and found.error:
            raise UserError(found.error, code="terminal_over")
        async with self.nodes_link.view(
            workspace.node_id,
            workspace.id,
            terminal,
            viewer=actor.name,
            writes=may(actor, "steer"),
        ) as view:
            yield WarmView(view, lambda: self._keep(workspace.id), clock=self.clock)

    async def _keep(self, workspace: WorkspaceId) -> None:
        """Let a workspace that no run works in stay as long as one whose run has just ended."""

        async def changes() -> Sequence[Change]:
            found = await existing(self.store, Workspace, workspace, "workspace")
            until = self.clock.now() + timedelta(seconds=self.clocks.warm_s)
            if found.run_id or found.state is not WorkspaceState.READY:
                return []
            kept = found.keep_until
            if kept is None or not self.clock.now() < kept < until:  # Let go already, or longer.
                return []
            return [Update(replace(found, keep_until=until))]

        try:
            await write(self.store, changes)
        except (UnavailableError, ConflictError) as error:  # The next key tries again.
            log.warning("workspace.not_kept", workspace_id=workspace, error=str(error))

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


async def _home(reader: Reader, workspace: WorkspaceId) -> tuple[Workspace, list[Terminal]]:
    found = await existing(reader, Workspace, workspace, "workspace")
    return found, await _tabs(reader, workspace)


async def _around(reader: Reader, terminal: TerminalId) -> tuple[Workspace, list[Terminal]]:
    return await _home(reader, (await _tab(reader, terminal)).workspace_id)


def _title(text: str) -> str:
    """Return what can be a title of what was said; empty for nothing that can be seen."""
    return "".join(c for c in text if c.isprintable()).strip()[:TITLE_CHARS_MAX].strip()


def _next_title(tabs: Sequence[Terminal]) -> str:
    taken, number = {tab.title for tab in tabs}, 1
    while (title := "Shell" if number == 1 else f"Shell {number}") in taken:
        number += 1
    return title


def _gone(workspace: Workspace) -> UserError:
    return UserError(
        f"Workspace {workspace.id} is gone: its work is on the branch {workspace.branch}. "
        "Reply in the thread of its task to go on in a new one.",
        code="workspace_gone",
    )


def _terminal(tab: Terminal) -> TerminalView:
    return TerminalView(
        id=tab.id,
        workspace_id=tab.workspace_id,
        title=tab.title,
        position=tab.position,
        state=tab.state,
        exit_code=tab.exit_code,
        error=tab.error,
    )


def _workspace(found: Workspace) -> WorkspaceView:
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
    )
