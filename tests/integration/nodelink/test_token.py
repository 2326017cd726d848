"""The node token: kept, renewed, also with the clock past its day."""

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest

from agent import enrol, identity
from agent.identity import Identity
from core.ids import NodeId
from tests.fakes.node_link import NODE, ControlPlane
from tests.fakes.serving import until


async def test_c2_a_token_older_than_a_day_is_renewed_and_the_new_one_links(
    plane: ControlPlane, tmp_path: Path
) -> None:
    old = plane.store.add_node(NODE)
    who = Identity(url=plane.url, node=NodeId(NODE), cpus=1.0, memory_mb=1)
    identity.save_token(tmp_path, old)
    identity.save(tmp_path, who)
    os.utime(tmp_path / identity.TOKEN, (1, 1))
    plane.store.fail["renew"] = 1
    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        keeping = group.create_task(
            enrol.keep_token_fresh(client, plane.url, tmp_path, look_s=0.05)
        )
        await until(lambda: identity.token(tmp_path) != old)
        keeping.cancel()
    fresh = identity.token(tmp_path)
    assert await plane.store.node_by_token(fresh) == NODE
    assert await plane.store.node_by_token(old) is None
    assert (tmp_path / identity.TOKEN).stat().st_mode & 0o077 == 0


def test_who_we_are_is_kept(tmp_path: Path) -> None:
    who = Identity(url="https://x", node=NodeId(NODE), cpus=1.5, memory_mb=7)
    assert identity.load(tmp_path) is None
    token = identity.own_token(tmp_path)
    assert identity.load(tmp_path) is None
    identity.save(tmp_path, who)
    assert identity.load(tmp_path) == who
    assert identity.token(tmp_path) == identity.own_token(tmp_path) == token
    assert (tmp_path / identity.TOKEN).stat().st_mode & 0o077 == 0


async def test_joining_says_what_is_wrong(plane: ControlPlane, tmp_path: Path) -> None:
    with pytest.raises(enrol.JoinError, match="cannot be reached"):
        await enrol.join("http://127.0.0.1:1", "t", tmp_path, cpus=1, memory_mb=1)
    with pytest.raises(enrol.JoinError, match="is it the control plane"):
        await enrol.join(f"{plane.url}/elsewhere", "t", tmp_path, cpus=1, memory_mb=1)
