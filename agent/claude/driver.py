"""Driving Claude Code: looks at what is, and does what is missing (`AgentDriver`)."""

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

from agent.claude import protocol
from agent.claude.follow import Follower
from agent.claude.home import (
    HOLDER,
    TRANSCRIPT_BYTES_MAX,
    WANTED,
    Transcript,
    environment,
    program,
    replace_small,
    script,
    seed,
    tail_of,
)
from agent.claude.others import others
from agent.claude.policy import restart_after_s
from agent.claude.prompts import Prompts, check
from agent.claude.questions import as_answer, as_question
from agent.claude.state import State, continue_after_s
from agent.claude.tools import reply
from agent.claude.typed import is_said
from agent.driver import Journal, Launcher, Program, SessionSpec
from agent.errors import NodeError
from agent.mailbox import ERRORS, GoneError, Mailbox
from core.ids import TerminalId
from core.wire import Json, SessionDelta

LOOK_S = 0.1
PROCESS_LOOK_S = 30.0
PLACE_LOOK_S = 1.0
SILENCE_S = 120.0
OTHERS_LOOK_S = 2.0
START_S_MAX = 60.0
STEP_S_MAX = 5.0
GOODBYE_S = 2.0
"""From the moment when nobody reads any more to the exit status: the rest is being written."""
SWEEP_S_MAX = 30.0
WORKSPACE_S_MAX = 600.0
UNREACHABLE = frozenset({"docker_failed", "workspace_stopped", "workspace_gone"})
"""What a launcher says when it cannot tell: the next look decides."""
JOURNAL_BYTES_MAX = 64 << 20
FIRST = "first"
"""Note with the offset of the journal's first byte, where that is not 0."""
LEASE = "lease"
"""Note with the terminal that the conversation is to be left to; empty while it is ours."""
CONTINUE = "continue"
REMINDER = (
    "You end your turn without a result. If the work is finished or cannot be finished, call "
    "complete_task with a summary; if you need an answer from people, call ask; otherwise go on."
)


class ClaudeDriver:
    """See `AgentDriver`. `run` must be running for anything else to have an effect.

    Args:
        spec: What to run, where and as whom.
        launcher: How its process is started and looked at.
        journal: Durable memory of this node.
        publish: Called with text as it is written; must not block.
        now: The wall clock.
        pace: Multiplies every wait before a restart or a repetition; tests hurry.
        step_s_max: Patience with each step of a stop: interrupt, end_session, TERM, KILL.
        journal_bytes_max: When the journal file is archived and begun anew.
    """

    def __init__(
        self,
        spec: SessionSpec,
        *,
        launcher: Launcher,
        journal: Journal,
        publish: Callable[[SessionDelta], None],
        now: Callable[[], datetime],
        pace: float = 1.0,
        step_s_max: float = STEP_S_MAX,
        journal_bytes_max: int = JOURNAL_BYTES_MAX,
    ) -> None:
        self._spec = spec
        self._launcher = launcher
        self._journal = journal
        self._now = now
        self._pace = pace
        self._step_s_max = step_s_max
        self._journal_bytes_max = journal_bytes_max
        self._mailbox = Mailbox(spec.run_dir, spec.session, uid=spec.uid, gid=spec.gid)
        self._follower = Follower(spec, self._mailbox, journal, publish=publish, now=now)
        self._prompts = Prompts(spec.session, journal)
        self._transcript = Transcript(spec)
        self._notes: dict[str, str] = {}
        self._failure: NodeError | None = None
        self._is_stopping = False
        self._lease = ""
        self._scanned = 0
        self._is_interrupted = False
        self._is_paused_until = 0.0
        self._stopped_since: float | None = None
        self._next_process_look = 0.0
        self._next_others_look = 0.0
        self._had_ours: set[str] = set()
        self._forget_process()

    def _forget_process(self) -> None:
        self._hello: asyncio.Future[Json] | None = None
        self._hello_at = 0.0
        self._is_greeted = False
        self._is_own = False
        self._answered: set[str] = set()
        self._continue_at: tuple[str, float] | None = None
        self._started_at = self._now()

    @property
    def state(self) -> State:
        """What the journal says so far."""
        return self._follower.state

    # What people order.

    async def run(self) -> None:
        """See `AgentDriver.run`."""
        try:
            await self._come_back()
            self._mailbox.prepare()
            seed(self._spec)
            self._notes = dict(await self._journal.notes(self._spec.session))
            self._follower.first = int(self._notes.get(FIRST, "0"))
            self._prompts.load(self._notes)
            # A stop that came while the notes were read may not be in them.
            self._is_stopping |= f"stopping.{self._spec.run}" in self._notes
            self._lease = self._notes.get(LEASE, "")
            await self._drive()
        except Exception as error:
            self._failure = (
                error
                if isinstance(error, NodeError)
                else NodeError(
                    "session_broken",
                    f"The session broke on the node ({type(error).__name__}); reply to go on.",
                )
            )
            self._follower.notify()
            raise

    async def _come_back(self) -> None:
        """Begin anew where there is no journal: what is remembered is of one that is gone.

        A conversation without its journal came back with a rescue copy. Its next offsets are above
        all that it ever had, because no session writes a mebibyte a second for long.
        """
        if self._mailbox.is_there():
            return
        session = self._spec.session
        await self._journal.begin_anew(session)
        if await asyncio.to_thread(self._transcript.exists):
            first = int(self._now().timestamp()) << 20
            await self._journal.note(session, FIRST, str(first))

    async def _drive(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._follower.run())
                await self._supervise()
                following.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def started(self) -> None:
        """See `AgentDriver.started`."""
        while not self._is_greeted and not self.state.holder:
            self._refuse_if_over()
            await self._follower.changed(within_s=1.0)

    async def _know(self) -> None:
        """Wait until the journal is read: before that nothing is known about the session."""
        while not self._follower.is_caught_up:
            if self._failure is not None:
                raise self._failure
            await self._follower.changed(within_s=1.0)

    def _refuse_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._is_over():
            raise NodeError("session_ended", self.state.reason)

    def _is_over(self) -> bool:
        return self._follower.is_caught_up and (
            self.state.has_ended and self.state.run == self._spec.run
        )

    async def prompt(self, prompt: str, text: str) -> None:
        """See `AgentDriver.prompt`."""
        check(text)
        await self._know()
        self._refuse_if_over()
        await self._prompts.add(prompt, text)
        self._follower.notify()

    async def answer(
        self, request: str, *, allow: bool, answers: Mapping[str, str], message: str
    ) -> None:
        """See `AgentDriver.answer`."""
        await self._know()
        key = f"answer.{request}"
        if key in self._notes:
            return
        asked = self.state.waiting.get(request)
        if asked is None or as_question(request, asked) is None:
            raise NodeError(
                "question_gone",
                "The question is not open any more; the coding agent went on without the answer.",
            )
        value = json.dumps({"allow": allow, "answers": dict(answers), "message": message})
        self._notes[key] = value
        await self._journal.note(self._spec.session, key, value)
        self._follower.notify()

    async def interrupt(self) -> None:
        """See `AgentDriver.interrupt`; `_supervise` sees to it."""
        await self._know()
        self._is_interrupted = True
        self._follower.notify()
        while self._is_interrupted and not self._is_over():
            if self._failure is not None:
                raise self._failure
            await self._follower.changed(within_s=1.0)

    async def hand_over(self, terminal: TerminalId) -> None:
        """See `AgentDriver.hand_over`."""
        await self._let(terminal)
        while self.state.holder != terminal:
            self._refuse_if_over()
            await self._follower.changed(within_s=1.0)

    def program(self) -> Program:
        """See `AgentDriver.program`."""
        return program(self._spec, self._launcher.inside)

    async def take_back(self, terminal: TerminalId) -> None:
        """See `AgentDriver.take_back`."""
        await self._know()
        if self._lease == terminal:
            await self._let("")
        while self.state.holder == terminal:
            self._refuse_if_over()
            await self._follower.changed(within_s=1.0)

    async def _let(self, terminal: str) -> None:
        """Write down who is to have the conversation; `_supervise` sees to it, in any life."""
        await self._know()
        self._refuse_if_over()
        self._lease = terminal
        await self._journal.note(self._spec.session, LEASE, terminal)
        self._follower.notify()

    async def stop(self) -> None:
        """See `AgentDriver.stop`."""
        if not self._is_stopping:
            self._is_stopping = True
            await self._journal.note(self._spec.session, f"stopping.{self._spec.run}", "1")
        self._follower.notify()
        while not self._is_over():
            if self._failure is not None:  # Nobody follows any more: leave no process at least.
                await self._launcher.sweep(self._spec.session)
                return
            await self._follower.changed(within_s=1.0)

    # What is done about it.

    async def _supervise(self) -> None:
        while not self._follower.is_caught_up:
            await self._follower.changed(within_s=1.0)
        self._show(self.state.holder)
        while not self._is_over():
            try:
                if self._is_away():
                    await self._look_away()
                elif await self._is_alive():
                    await self._serve()
                else:
                    await self._revive()
            except GoneError:
                continue
            except NodeError as error:
                if error.code == "agent_stuck":
                    await self._signal("KILL")
                elif error.code not in UNREACHABLE:
                    raise
            await self._follower.changed(within_s=LOOK_S)

    def _is_away(self) -> bool:
        """Whether the conversation is where it should be: in a terminal."""
        return bool(self._lease) and self._lease == self.state.holder and not self._is_stopping

    async def _look_away(self) -> None:
        """Follow what is said in the terminal. What waits for the return may be taken back."""
        await self._take_over_lines()
        if self._is_interrupted:
            await self._give_up_turn()
        await self._look_for_another()

    async def _take_over_lines(self) -> None:
        """Copy what the terminal added to the transcript into the journal, a line at a time."""
        self._scanned = max(self._scanned, self.state.copied)
        while lines := await asyncio.to_thread(self._transcript.lines, self._scanned):
            for line in lines:
                written = protocol.decode(line.text)
                if written is not None and is_said(written):
                    await self._mark("typed", copied=line.end, line=written)
                self._scanned = line.end

    async def _is_alive(self) -> bool:
        if self._mailbox.exit_code() is not None or not self._mailbox.has_reader():
            return False
        now = asyncio.get_running_loop().time()
        pid = self._mailbox.pid()
        if pid is None or now < self._next_process_look:
            return True
        self._next_process_look = now + PROCESS_LOOK_S
        try:
            return await self._launcher.is_alive(pid)
        except NodeError:
            return True

    async def _serve(self) -> None:
        """Give a living process what it waits for."""
        if self._hello is None:
            await self._say_hello()
        await self._answer_waiting()
        if self._is_interrupted and self._is_about_to_resume():
            await self._signal("KILL")
            return
        if not self._is_greeted:
            await self._greet()
            return
        if self._is_stopping:
            await self._end()
            return
        if self._lease or self.state.is_leaving:
            await self._leave_to_terminal()
            return
        if self._is_interrupted:
            await self._stop_turn()
            return
        await self._give_prompts()
        if self.state.is_refused:
            await self._interrupt()
        await self._continue_broken()
        await self._check_silence()
        await self._look_for_others()
        if self._mailbox.size() > self._journal_bytes_max:
            await self._rotate()

    async def _say_hello(self) -> None:
        """Begin, or attach. A blank line before it ends a line that a killed writer left."""
        ident = str(uuid.uuid4())
        hello = self._follower.expect(ident)
        await self._thaw()
        await self._mailbox.write(b"")
        await self._mailbox.write(protocol.encode(protocol.initialize(ident)))
        self._hello, self._hello_at = hello, asyncio.get_running_loop().time()

    async def _greet(self) -> None:
        assert self._hello is not None  # noqa: S101  said just before
        if self._hello.done():
            # The FIFO keeps the order: a prompt that was written before the greeting and left no
            # trace was never written.
            for prompt in self._prompts.unseen(self.state):
                await self._prompts.write(prompt, start=0)
            self._is_greeted = True
            self._follower.notify()
        elif asyncio.get_running_loop().time() - self._hello_at > START_S_MAX:
            await self._signal("KILL")

    async def _answer_waiting(self) -> None:
        for ident, request in self.state.waiting.items():
            if ident in self._answered:
                continue
            response = self._response(ident, request)
            if response is not None:
                self._answered.add(ident)
                await self._mailbox.write(protocol.encode(response))

    def _response(self, ident: str, request: Json) -> Json | None:
        """Return the answer to a request, None while people must give it."""
        if f"answer.{ident}" in self._notes:
            given = json.loads(self._notes[f"answer.{ident}"])
            return protocol.answer(ident, as_answer(request, **given))
        match request.get("subtype"):
            case "can_use_tool":
                return None
            case "hook_callback":
                return protocol.answer(ident, self._hook(request))
            case "mcp_message":
                said = reply(request)
                return None if said is None else protocol.answer(ident, said)
        return protocol.refuse(ident, "not supported")

    def _hook(self, request: Json) -> Json:
        state = self.state
        asks = any(as_question(ident, asked) for ident, asked in state.waiting.items())
        is_repeated = protocol.part(request, "input").get("stop_hook_active") or self._spec.is_chat
        if state.has_completed or state.was_asked or state.background or asks or is_repeated:
            return {}
        return {"decision": "block", "reason": REMINDER}

    def _is_about_to_resume(self) -> bool:
        """Whether the process will go on with a dead one's turn, so that nothing stops it yet."""
        return bool(self.state.resumed) and self.state.said in {"", "idle"}

    async def _stop_turn(self) -> None:
        """Carry out what `interrupt` asks for; first what the process was not given yet."""
        for prompt in self._prompts.unwritten(self.state):
            await self._remark("prompt", prompt=prompt.id, state="cancelled")
        if self._prompts.unwritten(self.state):
            return  # It was in mid-line.
        await self._interrupt()
        self._is_interrupted = False
        self._follower.notify()

    async def _interrupt(self) -> None:
        if self.state.phase == "idle" and not self._prompts.unseen(self.state):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._step_s_max):
                await self._ask("interrupt", cancel_queued=True)
                while self.state.said == "running":
                    await self._follower.changed(within_s=self._step_s_max)

    async def _give_prompts(self) -> None:
        for prompt in self._prompts.unwritten(self.state):
            await self._prompts.write(prompt, start=self.state.starts)
            line = protocol.encode(protocol.prompt(prompt.id, prompt.text))
            await self._mailbox.write(line)

    async def _continue_broken(self) -> None:
        broken = self.state.broken
        if not broken:
            return
        now = asyncio.get_running_loop().time()
        if self._continue_at is None or self._continue_at[0] != broken:
            wait_s = continue_after_s(self.state.continues - 1) * self._pace
            self._continue_at = (broken, now + wait_s)
        if now >= self._continue_at[1]:
            ident = uuid.uuid5(uuid.UUID(self._spec.session), broken)
            await self._prompts.add(str(ident), CONTINUE)
            self._follower.notify()

    async def _check_silence(self) -> None:
        """Ask a busy process that is silent whether it is still busy; the answer is in its hello.

        A lost report of a turn's end would otherwise keep the session busy for ever.
        """
        now = asyncio.get_running_loop().time()
        last = max(self._follower.read_at, self._hello_at)
        if self.state.phase == "busy" and now - last > SILENCE_S * self._pace:
            self._hello_at = now
            ident = f"initialize:{uuid.uuid4()}"
            await self._mailbox.write(protocol.encode(protocol.initialize(ident)))

    async def _look_for_others(self) -> None:
        """Tell of each process that somebody started by hand on this conversation, once."""
        now = asyncio.get_running_loop().time()
        if now < self._next_others_look:
            return
        self._next_others_look = now + OTHERS_LOOK_S
        for other in await asyncio.to_thread(others, self._spec):
            is_known = other.name in self.state.others or other.session != self._spec.session
            if not is_known and await self._launcher.is_alive(other.pid, began=other.began):
                await self._remark("other", name=other.name)

    async def _look_for_another(self) -> None:
        """Tell of a terminal that went from our conversation to another one: we cannot see it."""
        now = asyncio.get_running_loop().time()
        if now < self._next_others_look:
            return
        self._next_others_look = now + OTHERS_LOOK_S
        for other in await asyncio.to_thread(others, self._spec):
            left = f"{other.name}>{other.session}"
            if other.session == self._spec.session:
                self._had_ours.add(other.name)
            elif other.name in self._had_ours and left not in self.state.others:
                await self._mark("left", name=left)

    async def _remark(self, event: str, **more: object) -> None:
        """Write a line of our own between those of a living process; in mid-line, another time."""
        await self._signal("STOP")
        try:
            if await self._follower.is_at_end():
                await self._mark(event, **more)
        finally:
            await self._thaw()

    async def _ask(self, subtype: str, **more: object) -> Json:
        ident = f"{subtype}:{uuid.uuid4()}"
        answered = self._follower.expect(ident)
        await self._mailbox.write(protocol.encode(protocol.control(ident, subtype, **more)))
        return await answered

    # Ends.

    async def _leave_to_terminal(self) -> None:
        """End the process. What waits in it is written down first: it is given after the return."""
        if not self.state.is_leaving:
            await self._remark("leaving")
        if self.state.is_leaving:
            await self._end()

    async def _end(self) -> None:
        """End the process, each way harder than the one before."""
        for step in (self._leave_turn, self._leave, self._terminate, self._kill):
            try:
                async with asyncio.timeout(self._step_s_max):
                    await step()
            except GoneError:
                return
            except TimeoutError:
                continue

    async def _leave_turn(self) -> None:
        if self.state.said != "idle":
            await self._ask("interrupt", cancel_queued=True)

    async def _leave(self) -> None:
        await self._ask("end_session")
        await self._wait_for_end()

    async def _terminate(self) -> None:
        await self._signal("TERM")
        await self._wait_for_end()

    async def _kill(self) -> None:
        await self._signal("KILL")
        await self._wait_for_end()

    async def _wait_for_end(self) -> None:
        now = asyncio.get_running_loop().time
        read_at = now()
        while self._mailbox.exit_code() is None and now() - read_at < GOODBYE_S:
            await self._follower.changed(within_s=LOOK_S)
            read_at = now() if self._mailbox.has_reader() else read_at
        raise GoneError

    async def _signal(self, name: str) -> None:
        if pid := self._mailbox.pid():
            await self._launcher.signal(pid, name)

    # Starts.

    async def _revive(self) -> None:
        """Bring a process to life where none is, or end the session."""
        now = asyncio.get_running_loop().time()
        is_asked = self._is_stopping or self._is_interrupted
        if self.state.is_down and not is_asked and now < self._is_paused_until:
            return
        try:
            await self._sweep()
            place = ""
        except TimeoutError:
            return  # The next look goes on.
        except NodeError as error:
            place = error.code
            self._is_paused_until = now + PLACE_LOOK_S * self._pace
            if place == "docker_failed":
                return  # No answer is not "dead".
            if place == "workspace_stopped" and not self._is_stopping:
                with suppress(NodeError):  # The next look tries again.
                    await self._launcher.wake()
        await self._follower.read_to_end()
        if not self.state.is_down:
            await self._note_exit()
        if self._is_interrupted:
            await self._give_up_turn()
        if self.state.holder:
            await self._take_over_lines()
        if self._lease != self.state.holder and not self._is_stopping and not place:
            await self._change_hands()
            return
        if reason := self._verdict(place):
            code = self._mailbox.exit_code()
            self._show("")
            await self._mark("ended", run=self._spec.run, reason=reason, code=code)
            return
        if place or now < self._is_paused_until:
            self._stopped_since = (self._stopped_since or now) if place else None
            return
        self._stopped_since = None
        await self._settle_prompts()
        await self._start()

    async def _sweep(self) -> None:
        """Return when no process of the session is left: one that was killed takes its time."""
        async with asyncio.timeout(SWEEP_S_MAX):
            while await self._launcher.sweep(self._spec.session):  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(LOOK_S)

    async def _change_hands(self) -> None:
        """Note who has the conversation from now on. No process of it is left."""
        self._show(self._lease)
        if self._lease:
            self._mailbox.remove_marks()
            await self._mark("handed", terminal=self._lease, copied=self._transcript.size())
        else:
            await self._mark("returned")

    def _show(self, holder: str) -> None:
        """Say to whoever starts the program by hand that a terminal has the conversation."""
        replace_small(self._spec, "s", self._spec.session, HOLDER, text=holder)

    async def _note_exit(self) -> None:
        code = self._mailbox.exit_code()
        now = self._now()
        is_asked = self._is_stopping or self._is_interrupted or bool(self._lease)
        # A start that was cut off with the life that made it says nothing of the program.
        is_cut_off = code is None and not self._is_own and not self.state.is_ready
        await self._mark(
            "exited",
            code=code,
            asked_for=is_asked or code == 0 or is_cut_off,
            at=now.timestamp(),
            lived_s=(now - self._started_at).total_seconds(),
            tail=tail_of(self._mailbox.small(ERRORS)),
        )
        self._forget_process()
        crashes = self.state.crashes
        wait_s = restart_after_s(crashes) if crashes else 0.0
        if isinstance(wait_s, float):
            now_s = asyncio.get_running_loop().time()
            self._is_paused_until = now_s + wait_s * self._pace

    async def _give_up_turn(self) -> None:
        """Carry out an interrupt while no process lives: nothing said before it is done."""
        for prompt in self._prompts.open(self.state):
            await self._mark("prompt", prompt=prompt.id, state="cancelled")
        await self._mark("interrupted")
        self._is_interrupted = False
        self._follower.notify()

    def _verdict(self, place: str) -> str:
        """Return why the session is over, empty if it is not."""
        if self._is_stopping:
            return "stopped"
        if self._transcript.size() > TRANSCRIPT_BYTES_MAX:
            return "The coding agent's conversation is larger than 1 GiB; ask for a new task."
        if lack := self._lack(place):
            return lack
        if self._lease or not self.state.starts or self.state.has_ended:
            return ""
        if self._mailbox.exit_code() == 0:
            return "Claude Code ended by itself."
        verdict = restart_after_s(self.state.crashes) if self.state.crashes else ""
        return verdict if isinstance(verdict, str) else ""

    def _lack(self, place: str) -> str:
        """Return why no process can be there, empty if one can, or may soon."""
        if place == "workspace_gone":
            return "The workspace is gone."
        since = self._stopped_since
        if since and asyncio.get_running_loop().time() - since > WORKSPACE_S_MAX:
            return "The workspace does not run."
        return ""

    async def _settle_prompts(self) -> None:
        """Decide, while no process lives, what became of the prompts that the last one had."""
        for prompt in self._prompts.unfinished(self.state):
            if await asyncio.to_thread(self._transcript.holds, prompt.id):
                if prompt.id not in self.state.prompts:
                    await self._mark("prompt", prompt=prompt.id, state="started")
            elif not self._has_history() or await asyncio.to_thread(self._transcript.exists):
                await self._prompts.write(prompt, start=0)
                if prompt.id in self.state.prompts:
                    await self._mark("prompt", prompt=prompt.id, state="unwritten")
            else:
                await self._mark("prompt", prompt=prompt.id, state="ambiguous")

    def _has_history(self) -> bool:
        return "completed" in self.state.prompts.values()

    async def _start(self) -> None:
        resume = await asyncio.to_thread(self._transcript.exists)
        inside = self._launcher.inside
        number = self.state.starts + 1
        text = script(self._spec, inside, resume=resume, start=number)
        self._mailbox.remove_marks()
        replace_small(self._spec, "s", self._spec.session, WANTED, text=str(number))
        await self._mark("starting", run=self._spec.run, resume=resume)
        self._forget_process()
        self._is_own = True
        env = environment(self._spec, inside, resume=resume and not self.state.is_given_up)
        await self._launcher.start(text, env)
        await self._wait_for_reader()

    async def _wait_for_reader(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_S_MAX
        while not self._mailbox.has_reader() and self._mailbox.exit_code() is None:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(LOOK_S / 10)

    async def _mark(self, event: str, **more: object) -> None:
        self._mailbox.append(protocol.encode(protocol.mark(event, **more)))
        await self._follower.read_to_end()

    # The journal's size.

    async def _rotate(self) -> None:
        await self._signal("STOP")
        try:
            await self._follower.rotate()
        finally:
            await self._thaw()

    async def _thaw(self) -> None:
        await self._signal("CONT")
