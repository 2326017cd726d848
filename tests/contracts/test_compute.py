"""Promises of the port `compute`, for each supplier."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from adapters.local.compute import LocalCompute
from adapters.memory.compute import MemoryCompute
from core.errors import OutsideError
from core.ids import NodeId
from core.ports.compute import Compute, Server
from core.secret import Secret
from tests.fakes.hetzner.api import hetzner, hetzner_api

STAND_IN = ("/bin/sh", "-c", "exec sleep 1000")
A, B = NodeId("node-0000000a"), NodeId("node-0000000b")
TOKEN = Secret("one-time")

Reopen = Callable[[str], Compute]
"""Returns the same supplier as a new process of the named installation sees it."""


@pytest.fixture(params=["memory", "local", "hetzner"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Reopen]:
    rows: dict[str, Server] = {}

    def memory(installation: str) -> Compute:
        return MemoryCompute(installation=installation, rows=rows)

    def local(installation: str) -> Compute:
        return LocalCompute(
            state=tmp_path / "nodes",
            url="http://127.0.0.1:1",
            command=STAND_IN,
            settings={},
            installation=installation,
            env={},
        )

    async with hetzner_api() as api:

        def at_hetzner(installation: str) -> Compute:
            return hetzner(api, installation=installation)

        made = {"memory": memory, "local": local, "hetzner": at_hetzner}[request.param]
        yield made
        for installation in ("ours", "theirs"):
            for server in await made(installation).servers():
                await made(installation).destroy(server.ref)


@pytest.fixture
def compute(reopen: Reopen) -> Compute:
    return reopen("ours")


async def test_1_create_is_idempotent_by_node_id(compute: Compute) -> None:
    first = await compute.create(A, size="small", enrolment=TOKEN)
    again = await compute.create(A, size="small", enrolment=TOKEN)
    assert (again.ref, again.node_id) == (first.ref, first.node_id)
    assert [server.node_id for server in await compute.servers()] == [A]


async def test_2_destroying_a_machine_that_is_gone_is_no_error(compute: Compute) -> None:
    server = await compute.create(A, size="small", enrolment=TOKEN)
    await compute.destroy(server.ref)
    await compute.destroy(server.ref)
    assert list(await compute.servers()) == []


async def test_3_servers_lists_machines_that_this_process_forgot(
    compute: Compute, reopen: Reopen
) -> None:
    await compute.create(A, size="small", enrolment=TOKEN)
    await compute.create(B, size="small", enrolment=TOKEN)
    assert {server.node_id for server in await reopen("ours").servers()} == {A, B}


async def test_n7_3_servers_of_another_installation_are_not_ours(
    compute: Compute, reopen: Reopen
) -> None:
    await compute.create(A, size="small", enrolment=TOKEN)
    assert list(await reopen("theirs").servers()) == []


async def test_4_only_outside_errors_leave(compute: Compute) -> None:
    if isinstance(compute, MemoryCompute):
        compute.fail_next["create"] = OutsideError("sim", "503")
        with pytest.raises(OutsideError):
            await compute.create(A, size="small", enrolment=TOKEN)
        return
    for hostile in ("../../etc", "node-", "node-x/../..", ""):
        with pytest.raises(OutsideError):
            await compute.create(NodeId(hostile), size="small", enrolment=TOKEN)
        with pytest.raises(OutsideError):
            await compute.destroy(hostile)


async def test_5_the_label_is_there_from_the_first_moment(compute: Compute) -> None:
    server = await compute.create(A, size="small", enrolment=TOKEN)
    assert server.labels == {"samovar.installation": "ours", "samovar.node": A}
