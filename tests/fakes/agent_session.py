"""A driver on a real mailbox with everything a test wants to look at."""

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.claude.driver import ClaudeDriver
from agent.driver import SessionSpec
from agent.launcher import LocalLauncher
from bot.demo.script import Step, prompt, use
from core.ids import RunId, SessionId
from core.wire import SessionDelta
from tests.fakes.journal import FakeJournal

PACE = 0.02
DONE = use("mcp__samovar__complete_task", summary="It is done.")


@dataclass
class Bench:
    """One session's files and memory; drivers come and go on it."""

    root: Path
    model_url: str
    claude: str
    session: SessionId = field(default_factory=lambda: SessionId(str(uuid.uuid4())))
    run: str = "T-1.1"
    mode: str = "bypassPermissions"
    continues: str = ""
    is_chat: bool = False
    env: dict[str, str] = field(default_factory=dict)
    journal: FakeJournal = field(init=False)
    deltas: list[SessionDelta] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "work").mkdir(exist_ok=True)
        self.journal = FakeJournal(self.root / "journal.db")

    @property
    def spec(self) -> SessionSpec:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "SHELL": "/bin/bash",
            "ANTHROPIC_BASE_URL": self.model_url,
            "ANTHROPIC_AUTH_TOKEN": "wst-canary",
            **self.env,
        }
        return SessionSpec(
            session=self.session,
            run=RunId(self.run),
            model="claude-sonnet-5",
            frame="You work on a task.",
            mode=self.mode,
            folder=str(self.root / "work"),
            run_dir=self.root,
            env=env,
            claude=self.claude,
            uid=os.getuid(),
            gid=os.getgid(),
            continues=self.continues,
            is_chat=self.is_chat,
        )

    def driver(self, *, pace: float = PACE, **more: Any) -> ClaudeDriver:
        given = {"launcher": LocalLauncher(self.root), **more}
        return ClaudeDriver(
            self.spec,
            journal=self.journal,
            publish=self.deltas.append,
            now=lambda: datetime.now(UTC),
            pace=pace,
            **given,
        )

    def of(self, kind: str) -> list[dict[str, Any]]:
        return self.journal.of(self.session, kind)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.journal.events(self.session)]

    async def until(self, condition: Callable[[], object], *, within_s: float = 60) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            shown = [(e.kind, e.data) for e in self.journal.events(self.session)][-15:]
            raise AssertionError(f"not within {within_s} s; last events: {shown}") from None

    async def turns(self, number: int, *, within_s: float = 60) -> dict[str, Any]:
        """Wait for so many ends of turns and an idle session; return the last end."""
        await self.until(
            lambda: len(self.of("turn.end")) >= number and self.phase() == "idle",
            within_s=within_s,
        )
        return self.of("turn.end")[-1]

    def phase(self) -> str:
        states = self.of("session.state")
        return states[-1]["state"] if states else ""

    @property
    def box(self) -> Path:
        return self.root / "s" / self.session


@asynccontextmanager
async def running(driver: ClaudeDriver) -> AsyncGenerator[ClaudeDriver]:
    """Run a driver; leaving lets go of the coding agent."""
    task = asyncio.create_task(driver.run())
    try:
        yield driver
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def new_prompt() -> str:
    return str(uuid.uuid4())


def script(text: str, *steps: Step) -> str:
    """Return a person's message that says what the scripted model answers."""
    return prompt(text, steps)
