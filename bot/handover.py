"""What people can ask for with an agent's conversation: take it into a terminal, give it back."""

from dataclasses import dataclass, replace

from bot import replies
from bot.chats import ChatCommands
from bot.deciding import check, existing, write
from bot.people import People
from bot.workspaces import at_home, check_ready, full, opening, terminal_view
from core.access import Person
from core.errors import UserError
from core.ids import SessionId
from core.plan.step import told
from core.ports.commands import TerminalView, When
from core.ports.store import Change, Reader, Touch, Update, Wake
from core.run import Run, RunState
from core.session import AgentSession, SessionState
from core.terminal import LIVE, Terminal, TerminalState
from core.workspace import Workspace

TITLE = "Claude"
_AT_WORK = frozenset({RunState.WORKING, RunState.ASKING})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is decided from, read at one moment. `terminal` is the session's live one."""

    session: AgentSession
    run: Run
    workspace: Workspace
    tabs: list[Terminal]
    terminal: Terminal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCommands(ChatCommands):
    """The part of `core.ports.commands.Commands` that is about agents' conversations."""

    people: People

    async def open_session(
        self, actor: Person, session: SessionId, *, when: When = ""
    ) -> TerminalView:
        """See `Commands.open_session`."""
        check(actor, "steer")
        opened: list[Terminal] = []

        async def changes() -> list[Change]:
            seen = await self.store.snapshot(lambda reader: _look(reader, session))
            new, made = await self._opening(actor, seen, when)
            opened[:] = [new]
            return made

        known = await existing(self.store, AgentSession, session, "agent session")
        with full(known.workspace_id):
            await write(self.store, changes)
        return terminal_view(opened[0])

    async def _opening(
        self, actor: Person, seen: _Seen, when: When
    ) -> tuple[Terminal, list[Change]]:
        """Return the session's terminal, and what makes it so."""
        run, terminal = seen.run, seen.terminal
        _check_alive(seen)
        if terminal is not None and terminal.opened_by != actor.id:
            by = await self.people.name(terminal.opened_by)
            raise UserError(replies.in_terminal(terminal, by, run.task_id), code="in_terminal")
        # The run is written too: it must not end between our look and our wish.
        woken: list[Change] = [Update(run), Touch(run.task_id), Wake("run", run.id)]
        if terminal is not None:
            if terminal.state is not TerminalState.WAITING or when != "now":
                return terminal, []
            now = terminal.moved(TerminalState.OPENING, at=self.clock.now())
            fact = told(
                "terminal.opening",
                f"terminal:{now.id}",
                at=now.state_since,
                task_id=run.task_id,
                by=actor.id,
            )
            return now, [Update(now), fact, Wake("terminal", now.id), *woken]
        if not when and seen.session.state is not SessionState.IDLE:
            raise UserError(replies.AGENT_BUSY, code="agent_busy")
        made = self.new_terminal(actor, seen.workspace, seen.tabs, title=TITLE)
        state = TerminalState.OPENING if when == "now" else TerminalState.WAITING
        new = replace(made, session_id=seen.session.id, state=state)
        return new, [*opening(new, seen.workspace), *woken]

    async def return_session(self, actor: Person, session: SessionId) -> None:
        """See `Commands.return_session`."""
        check(actor, "steer")
        await existing(self.store, AgentSession, session, "agent session")
        for terminal in await self.store.find(Terminal, session_id=session, state=LIVE):
            await self.close_terminal(actor, terminal.id)


def _check_alive(seen: _Seen) -> None:
    """Refuse a conversation that nobody can go on with."""
    run = seen.run
    is_over = run.is_over or seen.session.state is SessionState.ENDED or run.cancel_by
    if is_over or run.state in {RunState.CHECKING, RunState.PUBLISHING}:
        raise UserError(replies.session_over(run.task_id), code="session_over")
    check_ready(seen.workspace)
    if run.state not in _AT_WORK:
        raise UserError(replies.AGENT_STARTS, code="agent_starts")


async def _look(reader: Reader, session_id: SessionId) -> _Seen:
    session = await existing(reader, AgentSession, session_id, "agent session")
    workspace, tabs = await at_home(reader, session.workspace_id)
    live = await reader.find(Terminal, session_id=session_id, state=LIVE)
    return _Seen(
        session=session,
        run=await reader.get(Run, session.run_id),
        workspace=workspace,
        tabs=tabs,
        terminal=live[0] if live else None,
    )
