"""Terminals of a workspace's container: held inside, or run by docker exec."""

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from core.viewing import Exited, Input, Size
from tests.fakes.serving import until
from tests.fakes.terminal_node import Life, an_order, living
from tests.fakes.terminals import Bench, container_bench
from tests.fakes.viewer import watching

pytestmark = pytest.mark.docker


@pytest.fixture(params=["held", "exec"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Bench]:
    async with container_bench(tmp_path, has_python=request.param == "held") as bench:
        yield bench


def life(tmp_path: Path, bench: Bench) -> AbstractAsyncContextManager[Life]:
    return living(
        tmp_path / "node",
        bench.lines,
        bench.run_dir,
        container=bench.container,
        user=bench.user,
        folder=bench.home,
    )


async def test_a_shell_in_the_container_is_seen_typed_into_and_sized(
    tmp_path: Path, bench: Bench
) -> None:
    async with life(tmp_path, bench) as node:
        await node.terminals.open(an_order())
        async with watching(node.view(), size=Size(91, 27)) as viewer:
            await viewer.say(Input(b"echo I am $(id -un) in $PWD; stty size\n"))
            await viewer.sees(f"I am {bench.user} in {bench.home}")
            await viewer.sees("27 91")
            await viewer.say(Input(b"exit 9\n"))
            await until(lambda: viewer.exit)
            assert viewer.exit == Exited(9)
        await until(node.reports)


async def test_the_next_life_goes_on_with_a_held_shell_and_says_that_another_is_gone(
    tmp_path: Path, bench: Bench, request: pytest.FixtureRequest
) -> None:
    async with life(tmp_path, bench) as node:
        await node.terminals.open(an_order("sh"))
        async with watching(node.view()) as viewer:
            await viewer.say(Input(b"A=kept; echo a''b\n"))
            await viewer.sees("ab")
    async with life(tmp_path, bench) as node, watching(node.view(), seen=viewer.at) as viewer:
        if "[held]" in request.node.name:
            await viewer.say(Input(b"echo is $A\n"))
            await viewer.sees("is kept")
        else:
            await until(lambda: viewer.exit)
            assert viewer.exit == Exited(None)


async def test_a_container_that_stops_ends_its_terminals_with_a_sentence(
    tmp_path: Path, bench: Bench
) -> None:
    async with life(tmp_path, bench) as node:
        await node.terminals.open(an_order("sh"))
        async with watching(node.view()) as viewer:
            await viewer.say(Input(b"echo $((40 + 2))\n"))
            await viewer.sees("42")
            assert bench.engine is not None
            await bench.engine.client.containers.container(bench.container).kill()
            await until(lambda: viewer.exit)
        await until(node.reports)
        (report,) = [json.loads(body) for body in await node.reports()]
        assert report["text"] or report["code"] < 0
