"""Rooms: what people take slowly holds up nothing that is quick."""

import asyncio

import pytest

from agent import rooms
from agent.rooms import Rooms, Wanted
from core.ids import WorkspaceId
from core.wire import OpenStream, PutFile


def a_stream(what: str) -> OpenStream:
    return OpenStream(ticket=what, what=what, name="w1")


async def test_what_is_slow_fills_its_own_room_and_who_finds_none_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = {"quick": 1, "kept": 1, "file": 2, PutFile.TYPE: 1}
    monkeypatch.setattr(rooms, "_ROOMS", few)
    served: list[str] = []
    refused: list[str] = []
    is_read = asyncio.Event()

    async def serve(wanted: Wanted) -> None:
        served.append(wanted.ticket)
        if wanted.ticket in {"file", "put"}:
            await is_read.wait()

    async def refuse(wanted: Wanted) -> None:
        refused.append(wanted.ticket)

    door = Rooms(serve, refuse, wait_s_max=0.05)
    put = PutFile(ticket="put", workspace=WorkspaceId("w1"), path="a")
    async with asyncio.TaskGroup() as group:
        for wanted in [a_stream("file")] * 3 + [put] * 2:
            group.create_task(door.serve(wanted))
        quick = ["folder", "changes", "ports", "build_log", "bundle", "rescue", "recording"]
        for what in quick:
            await door.serve(a_stream(what))
        while len(refused) < 2:
            await asyncio.sleep(0.01)
        is_read.set()
    assert sorted(served) == sorted([*quick, "file", "file", "put"])
    assert sorted(refused) == ["file", "put"]
    await door.serve(put)
    assert served[-1] == "put", "there is room again"
