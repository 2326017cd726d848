"""Random histories of conversations that go to terminals and back, in the world of runs.

The node here is as careful as a real one: it ends one program before it starts another. What is
looked for are records that forget a conversation, send words into a terminal, or leave a run
behind.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from bot.handover import SessionCommands
from bot.people import People
from core.access import Person
from core.errors import ConflictError, UserError
from core.ids import PersonId
from core.order import NodeOrder
from core.ports.store import Insert
from core.reconcile.terminals import TerminalReconciler
from core.run import Run, RunState
from core.session import AgentSession, Prompt, SessionState
from core.terminal import LIVE, Terminal, TerminalState
from tests.fakes.nouns import CLOCKS, NOW
from tests.unit.core.test_run_machine import Runs, World, run

AGENT = "the coding agent"


class LeaseWorld(World):
    """The world with terminals.

    Attributes:
        writer: Which program writes to each conversation, for those that were handed over once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writer: dict[str, str] = {}
        self.exits: list[str] = []

    def _insert(self, change: Insert) -> None:
        new = change.noun
        if isinstance(new, Terminal):
            others = [one for one in self.all(Terminal) if one.session_id == new.session_id]
            if any(one.state in LIVE for one in others):
                raise ConflictError("only_one_live_terminal_per_session")
        if isinstance(new, NodeOrder) and new.kind == "send_prompt":
            assert not self.is_held(new.body["session"]), "words were sent into a terminal"
        super()._insert(change)

    def is_held(self, session_id: str) -> bool:
        return any(
            one.session_id == session_id
            and one.state in LIVE
            and one.state is not TerminalState.WAITING
            for one in self.all(Terminal)
        )

    def answer(self, order: NodeOrder, *, ok: bool, commits: int = 1) -> None:
        if ok:
            self._obey(order)
        super().answer(order, ok=ok, commits=commits)

    def _obey(self, order: NodeOrder) -> None:
        body = order.body
        session = self.rows.get((AgentSession, str(body.get("session"))))
        if order.kind == "close_terminal":
            self.end(body["terminal"])
        elif session is None or session.id in self.dead:
            return
        elif order.kind == "hand_over":
            self.end(self.writer.get(session.id, ""))
            self.writer[session.id] = body["terminal"]
            self.emit(session, "session.state", state="in_terminal", terminal=body["terminal"])
        elif order.kind == "take_back" and self.writer.get(session.id) == body["terminal"]:
            self.end(body["terminal"])
            self.writer[session.id] = AGENT
            self.emit(session, "session.state", state="starting")
            self.emit(session, "session.state", state="idle")
        elif order.kind == "stop_session":
            self.end(self.writer.get(session.id, ""))

    def end(self, terminal_id: str) -> None:
        """Let a terminal's program end, and say so, as the link does it."""
        terminal = self.rows.get((Terminal, terminal_id))
        if terminal is None or terminal.state is TerminalState.EXITED:
            return
        over = terminal.moved(TerminalState.EXITED, at=self.now(), exit_code=0)
        self.rows[Terminal, terminal_id] = replace(over, version=over.version + 1)
        session = self.rows[AgentSession, terminal.session_id]
        self.wake("terminal", terminal_id)
        self.wake("run", session.run_id)


class Leases(Runs):
    def __init__(self) -> None:
        super().__init__()
        before, self.world = self.world, LeaseWorld()
        self.world.rows |= before.rows
        for look in self.looks.values():
            for name in ("store", "clock", "forge", "nodes"):
                if hasattr(look, name):
                    object.__setattr__(look, name, self.world)
            if hasattr(look, "files"):
                object.__setattr__(look, "files", self.world.files)
        object.__setattr__(self.conversation, "store", self.world)
        object.__setattr__(self.conversation, "clock", self.world)
        self.looks["terminal"] = TerminalReconciler(
            store=self.world, clock=self.world, clocks=CLOCKS
        )
        self.numbers = count(1)
        world = cast("Any", self.world)
        self.commands = SessionCommands(
            store=world,
            clock=world,
            clocks=CLOCKS,
            people=People(store=world, clock=world, clocks=CLOCKS),
            nodes_link=cast("Any", None),
            doors=cast("Any", None),
            files=cast("Any", None),
        )

    def person(self, name: str) -> Person:
        return Person(id=PersonId(name), name=name.title(), role="member", created_at=NOW)

    @precondition(lambda self: self.live_sessions())
    @rule(
        pick=st.integers(0, 9),
        by=st.sampled_from(["ana", "ben"]),
        when=st.sampled_from(["", "idle", "idle", "now"]),
    )
    def someone_opens(self, pick: int, by: str, when: Any) -> None:
        sessions = self.live_sessions()
        session = sessions[pick % len(sessions)]
        self.world.conflicts = 0
        with suppress(UserError):
            run(self.commands.open_session(self.person(by), session.id, when=when))

    @precondition(lambda self: self.world.all(Terminal))
    @rule(pick=st.integers(0, 9))
    def someone_gives_it_back(self, pick: int) -> None:
        terminals = self.world.all(Terminal)
        session_id = terminals[pick % len(terminals)].session_id
        self.world.conflicts = 0
        run(self.commands.return_session(self.person("ben"), session_id))

    @precondition(lambda self: self.world.all(Terminal))
    @rule(pick=st.integers(0, 9))
    def a_terminals_program_ends(self, pick: int) -> None:
        there = [name for name in self.world.writer.values() if name != AGENT]
        if there:
            self.world.end(there[pick % len(there)])

    def act(self, session: AgentSession, does: str) -> None:
        """A coding agent does nothing while a terminal has its conversation."""
        if self.world.writer.get(session.id, AGENT) == AGENT:
            super().act(session, does)

    @invariant()
    def words_do_not_wait_for_the_next_look_round(self) -> None:
        """But for those that wait for a terminal to give the conversation back."""
        due = {key for kind, key in self.now_due() if kind == "run"}
        for prompt in self.world.all(Prompt):
            one = self.world.rows.get((Run, prompt.run_id))
            if one is None or one.state is not RunState.WORKING or prompt.when_idle:
                continue
            session = self.world.rows.get((AgentSession, one.session_id))
            is_away = session is not None and (
                session.state is SessionState.IN_TERMINAL or self.world.is_held(session.id)
            )
            if prompt.state == "pending" and not is_away:
                assert prompt.run_id in due, f"{prompt.text!r} waits and nobody is woken"

    @invariant()
    def g6_a_conversation_has_one_live_terminal_at_most(self) -> None:
        held = [t.session_id for t in self.world.all(Terminal) if t.state in LIVE]
        assert len(held) == len(set(held))

    @invariant()
    def nobody_forgets_a_conversation_without_its_terminal(self) -> None:
        """Never none: its run is due, or waits for the answer to the order that takes it back."""
        for session in self.world.all(AgentSession):
            is_lost = session.state is SessionState.IN_TERMINAL
            if not is_lost or self.world.is_held(session.id):
                continue
            orders = [o for o in self.open_orders() if o.kind in {"take_back", "stop_session"}]
            is_asked = any(order.body["session"] == session.id for order in orders)
            is_due = ("run", session.run_id) in self.world.due
            assert is_asked or is_due or self.world.rows[Run, session.run_id].is_over

    def _be_nice(self) -> None:
        for terminal in self.world.all(Terminal):
            if terminal.state is TerminalState.WAITING:
                self.world.conflicts = 0
                run(self.commands.return_session(self.person("ana"), terminal.session_id))
            else:
                self.world.end(terminal.id)
        super()._be_nice()

    def teardown(self) -> None:
        super().teardown()
        for terminal in self.world.all(Terminal):
            assert terminal.state is TerminalState.EXITED, "a terminal outlives its workspace"


TestLeases = Leases.TestCase
TestLeases.settings = settings(deadline=None)
