"""The whole with stand-in parts, killed at random moments: real store, engine, link and node agent.

A failure prints its seed and its timeline. `-m long` plays two hundred of them.
"""

import asyncio
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.fakes.history import Plan, history
from tests.fakes.history_checks import problems, unrest

AT_ONCE = 5
CALM_S = 120
BROKE = (0, 5, 12, 28, 33, 45)
"""Seeds that found something: cards that were touched while they were sent (0, 5), nodes that were
linked before they were noted (12, 28, 33), a code host that was away for a moment (45)."""


async def play(plan: Plan, folder: Path, template: Path) -> str:
    """Play one history to its end; return what was wrong with it, with its timeline."""
    folder.mkdir()
    shutil.copy(template, folder / "samovar.db")
    url = f"sqlite:///{folder / 'samovar.db'}"
    async with history(plan, folder, url) as known:
        known.add_control("c")
        await known.until(known.is_up)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(known.answer_all())
            blows = [group.create_task(known.strike(blow)) for blow in plan.blows]
            asking = [group.create_task(known.ask_for(request)) for request in plan.requests]
            moving: list[str] = []
            try:
                async with asyncio.timeout(CALM_S):
                    await asyncio.wait([*blows, *asking])
                    while (moving := await unrest(known)) and not known.world.wrong:
                        await asyncio.sleep(0.1)
            except TimeoutError:
                moving.append("the world did not become calm")
            answering.cancel()
            for task in (*blows, *asking):
                task.cancel()
        wrong = [*moving, *await problems(known)]
        if not wrong:
            return ""
        return "\n".join([f"seed {plan.seed}:", *wrong, known.timeline()])


async def play_all(seeds: Iterable[int], folder: Path, template: Path) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> str:
        async with gate:
            return await play(Plan.of(seed), folder / f"s{seed}", template)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(seed)) for seed in seeds]
    wrong = [task.result() for task in tasks if task.result()]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "seeds",
    [
        BROKE,
        range(1, 4),
        pytest.param(range(6, 12), marks=pytest.mark.long),
        range(13, 17),
    ],
)
async def test_histories_with_kills_end_well(
    seeds: Iterable[int], tmp_path: Path, sqlite_template: Path
) -> None:
    await play_all(seeds, tmp_path, sqlite_template)


async def test_a_history_nobody_has_seen_ends_well(tmp_path: Path, sqlite_template: Path) -> None:
    seed = random.SystemRandom().randrange(10**6, 10**9)
    print(f"seed {seed}")
    await play_all([seed], tmp_path, sqlite_template)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(20, 200, 20))
async def test_two_hundred_histories_end_well(
    first: int, tmp_path: Path, sqlite_template: Path
) -> None:
    await play_all(range(first, first + 20), tmp_path, sqlite_template)
