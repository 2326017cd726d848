"""Tell how far a workspace is, step by step."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from agent.devcontainer import HOOKS_S, PROBE_S, READ_S, UP_S
from agent.git import LOCAL_S, NETWORK_S
from core.ids import WorkspaceId
from core.wire import StepState, WorkspaceStep

PERCENT_EVERY_S = 2

LIMITS: Mapping[str, tuple[float, str]] = {
    "fetch": (NETWORK_S, "the run ends and says why; after 2 minutes in silence too"),
    "tree": (LOCAL_S, "the run ends and says why"),
    "policy": (READ_S, "the last good image is used, else the default one"),
    "build": (UP_S, "the last good image is used, else the default one"),
    "start": (UP_S, "the last good image is used, else the default one"),
    "hooks": (HOOKS_S, "the agent begins without the rest of them, and the card says so"),
    "probe": (PROBE_S, "the container's own environment is used, and the card says so"),
}
"""Seconds that each step may take, and what comes then."""
Tell = Callable[[WorkspaceStep], Awaitable[None]]


class Progress:
    """The steps of one attempt."""

    def __init__(self, tell: Tell, workspace: WorkspaceId, attempt: int) -> None:
        self._tell = tell
        self._workspace = workspace
        self._attempt = attempt
        self._said_at = 0.0

    async def say(self, step: str, state: StepState, text: str = "") -> None:
        """Tell one fact."""
        at = datetime.fromtimestamp(time.time(), tz=UTC).isoformat()
        limit_s, then = LIMITS.get(step, (0.0, "")) if state == "started" else (0.0, "")
        await self._tell(
            WorkspaceStep(
                workspace=self._workspace,
                attempt=self._attempt,
                step=step,
                state=state,
                at=at,
                text=text,
                limit_s=limit_s,
                then=then,
            )
        )

    async def more(self, step: str, text: str) -> None:
        """Tell how far a running step is, not too often."""
        now = time.monotonic()
        if now - self._said_at >= PERCENT_EVERY_S:
            self._said_at = now
            await self.say(step, "started", text)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[None]:
        """Tell that a step started, and then that it is done or failed."""
        await self.say(name, "started")
        try:
            yield
        except Exception as error:
            await self.say(name, "failed", str(error)[:500])
            raise
        await self.say(name, "done")
