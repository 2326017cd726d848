"""A driver killed at random moments of a long turn: what is stored is what was written."""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import pytest

from agent.claude.normalise import fold
from agent.claude.protocol import decode
from agent.claude.state import State
from agent.mailbox import Mailbox
from bot.demo.script import say, step, use
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script

pytestmark = pytest.mark.claude


def written(bench: Bench) -> list[tuple[int, str, object]]:
    """Return what the whole journal says, read in one go."""
    box = Mailbox(bench.root, bench.session, uid=os.getuid(), gid=os.getgid())
    state, found = State(), []
    for line in box.lines(0):
        raw = decode(line.text)
        assert raw is not None
        state, facts = fold(state, raw)
        for index, fact in enumerate(facts):
            if fact.kind != "message.delta":
                found.append((line.start + index, fact.kind, fact.data))
    return found


@pytest.mark.parametrize("seed", [1])
async def test_w7_a_driver_killed_at_random_moments_loses_and_doubles_nothing(
    bench: Bench, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    text = say("word " * 600, chunks=600, delay_s=0.002)
    tool = use("Bash", command="echo hello")
    steps = [step(text, tool), step(text, tool), step(text, DONE), step(say("End."))]
    plan = tmp_path / "plan.json"
    given = {
        "root": str(bench.root),
        "bench": {"model_url": bench.model_url, "claude": bench.claude, "session": bench.session},
        "prompts": [[new_prompt(), script("go", *steps)]],
        "turns": 1,
    }
    plan.write_text(json.dumps(given))
    kills = 0
    while True:
        program = (sys.executable, "-m", "tests.fakes.driver_process", str(plan))
        process = await asyncio.create_subprocess_exec(*program)
        try:
            # A busy machine starts slowly: each life is a little longer than the one before.
            async with asyncio.timeout(chance.uniform(0.5, 1.3) * 1.08**kills):
                assert await process.wait() == 0
            break
        except TimeoutError:
            process.kill()
            await process.wait()
            kills += 1
            assert kills < 40, "no turn ended"
    async with running(bench.driver()) as driver:
        await driver.stop()
    assert kills >= 3
    stored = [(e.offset, e.kind, e.data) for e in bench.journal.events(bench.session)]
    assert stored == written(bench)
    lines = (bench.box / "out.jsonl").read_bytes().count(b"\n")
    assert lines >= 1800
    assert [p["state"] for p in bench.of("prompt.state")] == ["queued", "started", "completed"]
    assert len(bench.of("complete")) == 1
