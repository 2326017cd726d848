"""What people see when the model fails: a real Claude Code behind the proxy.

Each row of the table in docs/reference/model-proxy.md has its test here.
"""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.anthropic.upstream import ProxyLimits
from bot.demo.model import ScriptedModel
from bot.demo.script import Step, prompt, say, step
from tests.fakes.model_proxy import REAL_KEY, TOKEN, FakeGrants, a_grant, a_proxy
from tests.fakes.serving import until
from tests.fakes.session_fixtures import outside_part

pytestmark = pytest.mark.claude
PATIENT = ProxyLimits(retry_s_first=0.05)
ENDS_WITHIN_S = 60
gives_up = pytest.mark.parametrize(
    "limits", [ProxyLimits(silent_s_max=3, whole_s_max=5, retry_s_max=1.5, retry_s_first=0.05)]
)
"""The proxy gives up within seconds."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What Claude Code printed for one prompt."""

    lines: list[dict[str, Any]]
    took_s: float

    @property
    def result(self) -> dict[str, Any]:
        (result,) = [line for line in self.lines if line["type"] == "result"]
        return result

    @property
    def retries(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("subtype") == "api_retry"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A home of its own for Claude Code, with nothing of this machine's environment."""

    claude: str
    home: Path
    url: str

    async def turn(self, text: str, *arguments: str) -> Turn:
        """Say `text` and wait for the result."""
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        line = {"type": "user", "uuid": str(uuid.uuid4()), "message": message, "session_id": ""}
        clock = asyncio.get_running_loop().time
        began = clock()
        process = await asyncio.create_subprocess_exec(
            self.claude,
            *("-p", "--input-format", "stream-json", "--output-format", "stream-json"),
            *("--verbose", "--include-partial-messages", "--strict-mcp-config"),
            *("--permission-mode", "bypassPermissions", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self.home,
            env=self._environment(),
            limit=1 << 24,
        )
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                out, _ = await process.communicate(json.dumps(line).encode() + b"\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Turn(lines=[json.loads(one) for one in out.splitlines()], took_s=clock() - began)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / "claude"),
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_AUTH_TOKEN": TOKEN,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "4",
            "IS_SANDBOX": "1",  # Else it refuses to work for root.
        }


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(keys=frozenset({REAL_KEY})) as model:
        yield model


@pytest.fixture
def grants() -> FakeGrants:
    return FakeGrants()


@pytest.fixture
def limits() -> ProxyLimits:
    return PATIENT


@pytest.fixture
async def place(
    model: ScriptedModel, grants: FakeGrants, limits: ProxyLimits, tmp_path: Path
) -> AsyncIterator[Place]:
    claude = outside_part("SAMOVAR_CLAUDE", "the Claude Code binary")
    async with a_proxy(grants, model.url, limits) as url:
        yield Place(claude=claude, home=tmp_path, url=url)


def go(*steps: Step) -> str:
    return prompt("go", steps)


async def test_an_answer_is_heard_and_its_cost_booked_to_its_session(
    place: Place, grants: FakeGrants
) -> None:
    turn = await place.turn(go(step(say("Hello there.", chunks=3))))
    assert turn.result["result"] == "Hello there."
    assert not turn.result["is_error"]
    (call,) = grants.calls
    assert call.session == turn.result["session_id"]
    assert call.cost_usd > 0


async def test_a_spent_budget_ends_the_turn_at_once_with_our_sentence(
    place: Place, model: ScriptedModel, grants: FakeGrants
) -> None:
    grants.held[TOKEN] = a_grant(budget="0")
    turn = await place.turn(go(step(say("Hello"))))
    assert turn.result["api_error_status"] == 402
    assert "The budget of $0.00 for T-1 is used up" in turn.result["result"]
    assert turn.retries == []
    assert len(grants.refused) == 1
    assert not model.requests


@pytest.mark.parametrize("status", [429, 529])
async def test_a_storm_that_the_proxy_sits_out_is_not_seen(
    place: Place, model: ScriptedModel, status: int
) -> None:
    turn = await place.turn(go(step(say("At last."), status=status, times=4)))
    assert turn.result["result"] == "At last."
    assert turn.retries == []
    assert len(model.requests) == 5


@gives_up
async def test_a_storm_without_end_ends_the_turn_as_soon_as_the_proxy_gives_up(
    place: Place,
) -> None:
    turn = await place.turn(go(step(status=529)))
    assert turn.result["terminal_reason"] == "api_error"
    assert turn.result["api_error_status"] == 529
    assert "Anthropic is overloaded" in turn.result["result"]
    assert turn.retries == [], "the proxy has waited; nobody waits twice"


async def test_a_cut_in_mid_stream_is_mended_by_asking_again(
    place: Place, model: ScriptedModel, grants: FakeGrants
) -> None:
    turn = await place.turn(go(step(say("abcdef", chunks=6), cut_after=3, times=1)))
    assert turn.result["result"] == "abcdef"
    assert len(turn.retries) == 1
    assert len(model.requests) == len(grants.calls) == 2


@gives_up
async def test_an_upstream_that_falls_silent_is_cut_and_asked_again(
    place: Place, model: ScriptedModel
) -> None:
    turn = await place.turn(go(step(say("abcdef", chunks=6), stall_after=3, times=1)))
    assert turn.result["result"] == "abcdef"
    assert turn.took_s < 100, "Claude Code alone would have waited 300 s"
    assert len(model.requests) == 2


@gives_up
async def test_an_upstream_that_is_silent_from_the_start_is_asked_again(place: Place) -> None:
    turn = await place.turn(go(step(say("abc"), stall_after=0, times=1)))
    assert turn.result["result"] == "abc"
    assert [retry["error_status"] for retry in turn.retries] == [504]


async def test_a_refused_key_ends_the_turn_at_once_and_names_who_must_act(
    place: Place, model: ScriptedModel
) -> None:
    model.keys = frozenset({"another"})
    turn = await place.turn(go(step(say("Hello"))))
    assert turn.result["api_error_status"] == 403
    assert "operator" in turn.result["result"]
    assert turn.retries == []
    assert len(model.requests) == 1


async def test_a_revoked_token_ends_the_turn_at_once(place: Place, grants: FakeGrants) -> None:
    grants.held.clear()
    turn = await place.turn(go(step(say("Hello"))))
    assert turn.result["api_error_status"] == 403
    assert "No run works in this workspace now" in turn.result["result"]
    assert turn.retries == []


async def test_a_model_without_a_price_ends_the_turn_with_the_setting_to_add(
    place: Place,
) -> None:
    turn = await place.turn(go(step(say("Hello"))), "--model", "claude-new-9")
    assert turn.result["api_error_status"] == 403
    assert "[[model.prices]]" in turn.result["result"]


async def test_killed_it_leaves_no_call_upstream(place: Place, model: ScriptedModel) -> None:
    stuck = go(step(say("abc" * 9, chunks=9), stall_after=3))
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(place.turn(stuck))
        await until(lambda: model.inflight == 1)
        turn.cancel()
    await until(lambda: model.inflight == 0)
