"""The ports of an agent session: who drives it, what it remembers, how its process is started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from core.ids import RunId, SessionId, TerminalId
from core.wire import SessionEvent

BROKEN = "session_broken"
"""Code of what a driver that crashes says to whoever waits for it."""
Cursor = tuple[int, int]
"""Generation of a session's journal and the byte in it up to which events are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """What is needed to start a coding agent or to find it again.

    Attributes:
        session: Name of the conversation; the same one resumes it.
        continues: Earlier conversation of the same workspace that goes on in this one; it is not
            written to. Empty for a new conversation.
        frame: Appended to the coding agent's system prompt.
        mode: Permission mode in the coding agent's words.
        folder: Working directory as the process sees it.
        run_dir: The workspace's run directory on the node; `/run/samovar` in its container.
        env: Probed environment of the workspace's user, with the model proxy's address and token.
        claude: Path of the program as the process sees it.
        uid: Owner of the process and of its files.
        gid: Group of the same.
        is_chat: Whether the end of a turn needs no result.
    """

    session: SessionId
    run: RunId
    model: str
    frame: str
    mode: str
    folder: str
    run_dir: Path
    env: Mapping[str, str]
    claude: str
    uid: int
    gid: int
    continues: str = ""
    is_chat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What runs in a terminal: a command and its whole environment."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)


class Journal(Protocol):
    """Durable memory of a node about its agent sessions.

    1. `cursor` is `(0, 0)` for a session that nothing was stored for.
    2. `store` keeps events and cursor in one transaction; a repeated offset is ignored.
    3. `note` keeps a small fact for ever; the last value of a key counts.
    4. What returned has survived a kill.
    5. After `begin_anew` a session is as one that nothing was stored for; `host.…` notes stay.
    """

    async def cursor(self, session: SessionId) -> Cursor:
        """Return up to where events are stored."""
        ...

    async def store(
        self, session: SessionId, events: Sequence[SessionEvent], *, cursor: Cursor
    ) -> None:
        """Keep `events` and move the cursor."""
        ...

    async def note(self, session: SessionId, key: str, value: str) -> None:
        """Keep a fact."""
        ...

    async def notes(self, session: SessionId) -> Mapping[str, str]:
        """Return the facts."""
        ...

    async def begin_anew(self, session: SessionId) -> None:
        """Forget cursor and facts of a session whose journal is gone."""
        ...


class Launcher(Protocol):
    """How a process of a session is started, looked at and ended.

    1. `start` returns when the process was handed over; it outlives whoever started it.
    2. Processes are found by the session's id in their environment, never by name.
    3. `NodeError` with `workspace_stopped` or `workspace_gone` says that there is no place to
       run; any other failure means "unknown", never "dead".
    """

    @property
    def inside(self) -> str:
        """The workspace's run directory as the process sees it."""
        ...

    async def start(self, script: str, env: Mapping[str, str]) -> None:
        """Run the shell `script` as the session's user, detached."""
        ...

    async def is_alive(self, pid: int, *, began: str = "") -> bool:
        """Return whether the process with this id (as it sees itself) exists.

        `began` tells it from a later one with its id: clock ticks since the machine's start, as
        field 22 of `/proc/PID/stat` has them.
        """
        ...

    async def signal(self, pid: int, name: str) -> None:
        """Send a signal (`TERM`, `STOP`, …); a process that is gone is no error.

        After `STOP` has returned the process writes nothing more.
        """
        ...

    async def wake(self) -> None:
        """Make sure that there is a place to run: a container that was stopped is started.

        Raises:
            NodeError: It cannot be now.
        """
        ...

    async def sweep(self, session: SessionId) -> int:
        """Kill every process of the session that is left and return how many there were."""
        ...


class AgentDriver(Protocol):
    """One agent session on this node."""

    async def run(self) -> None:
        """Attach to the process or start it, then follow it until the session ended.

        Cancelling lets go without touching the coding agent: the next `run` adopts it.
        """
        ...

    async def started(self) -> None:
        """Wait until the coding agent answered.

        Raises:
            NodeError: It cannot start.
        """
        ...

    async def prompt(self, prompt: str, text: str) -> None:
        """Take a prompt, once per id; what becomes of it comes as `prompt.state` events.

        Raises:
            NodeError: It cannot be given: `session_ended`, `prompt_invalid`.
        """
        ...

    async def answer(
        self, request: str, *, allow: bool, answers: Mapping[str, str], message: str
    ) -> None:
        """Answer an open question; the first answer counts.

        Raises:
            NodeError: `question_gone`: it was withdrawn, or its process ended.
        """
        ...

    async def interrupt(self) -> None:
        """Stop the turn and drop what was said before; nothing to stop is no error.

        That is also true of prompts that were only taken so far, and of a turn that a dead process
        left in the middle: the next process does not go on with it.
        """
        ...

    async def hand_over(self, terminal: TerminalId) -> None:
        """End the process and leave the conversation to a terminal; return when that is so.

        From then on only the terminal writes to it, also after a restart of the node agent, and
        what is said there becomes events of the session.

        Raises:
            NodeError: `session_ended`.
        """
        ...

    def program(self) -> Program:
        """Return what the terminal runs."""
        ...

    async def take_back(self, terminal: TerminalId) -> None:
        """End what the terminal runs and let the session go on; not in this one is fine.

        Raises:
            NodeError: `session_ended`.
        """
        ...

    async def stop(self) -> None:
        """End the session and return when none of its processes is left.

        The journal remembers it: whatever happens meanwhile, no later `run` starts the coding
        agent for this run again.

        Raises:
            NodeError: Whether a process is left cannot be told now: ask again.
        """
        ...
