"""Every route of `/node/v1` with its bearer token and without; streams; hostile frames."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route, WebSocketRoute

from agent.files import Layout
from agent.streams import Streams, file_sources
from core.errors import NotFoundError, UnavailableError
from core.ids import NodeId
from core.link import LinkClosedError
from core.wire import PROTOCOL, REPORTS, Frame, Hello, OpenStream, frame
from tests.fakes.node_link import NODE, ControlPlane, attached, dialled
from tests.fakes.serving import until

WISH = {"name": "box", "cpus": 2, "memory_mb": 100, "token_hash": "ab" * 32}


async def test_c1_every_route_refuses_who_has_no_token_or_a_wrong_one(
    plane: ControlPlane,
) -> None:
    walked = set()
    async with aiohttp.ClientSession() as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "session=1"}):
            for route in plane.link.app.routes:
                assert isinstance(route, Route | WebSocketRoute)
                walked.add(route.path)
                if route.path == "/agent/{sha256}.pyz":
                    continue  # Code, no secret: a machine fetches it before it may join.
                path = route.path.replace("{ticket}", "x").replace("{sha256}", "ab" * 32)
                url = f"{plane.url}/node/v1{path}"
                if isinstance(route, WebSocketRoute):
                    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                        await client.ws_connect(url, headers=headers)
                    assert refused.value.status == 401
                else:
                    method = "GET" if "GET" in (route.methods or ()) else "POST"
                    async with client.request(method, url, json=WISH, headers=headers) as answer:
                        assert answer.status == 401
                        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert walked == {
        *("/link", "/stream/{ticket}", "/enrol", "/renew"),
        *("/agent/{sha256}.pyz", "/files/{sha256}"),
    }


async def test_c1_a_node_token_does_not_enrol_and_a_one_time_token_does_not_link(
    plane: ControlPlane,
) -> None:
    token, once = plane.store.add_node(NODE), plane.store.add_enrolment("node-0000cccc")
    async with aiohttp.ClientSession(f"{plane.url}/node/v1/") as client:
        async with client.post("enrol", json=WISH, headers=bearer(token)) as answer:
            assert answer.status == 401
        async with client.post("renew", headers=bearer(once)) as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.ws_connect("link", headers=bearer(once))


async def test_c3_two_redeems_at_once_make_one_node(plane: ControlPlane) -> None:
    once = plane.store.add_enrolment(NODE)
    plane.store.delay_s["redeem"] = 0.05
    async with aiohttp.ClientSession(f"{plane.url}/node/v1/") as client:

        async def redeem(machine: int) -> int:
            wish = WISH | {"token_hash": f"{machine:064x}"}
            async with client.post("enrol", json=wish, headers=bearer(once)) as answer:
                return answer.status

        assert sorted(await asyncio.gather(*map(redeem, range(8)))) == [200] + [401] * 7


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"name": "x"}',
        b'{"name": 5, "cpus": 1, "memory_mb": 1}',
        b'{"name": "x", "cpus": 0, "memory_mb": 1, "token_hash": "' + b"a" * 64 + b'"}',
        b'{"name": "x", "cpus": NaN, "memory_mb": 1, "token_hash": "' + b"a" * 64 + b'"}',
        b'{"name": "x", "cpus": 1, "memory_mb": 1e400, "token_hash": "' + b"a" * 64 + b'"}',
        b'{"name": "x", "cpus": 1, "memory_mb": 1}',
        b'{"name": "x", "cpus": 1, "memory_mb": 1, "token_hash": ""}',
        b'{"name": "x", "cpus": 1, "memory_mb": 1, "token_hash": [1]}',
        b'{"name": "a b", "cpus": 1, "memory_mb": 1, "token_hash": "' + b"a" * 64 + b'"}',
        b"[" * 5000,
        b'{"name": "' + b"x" * 5000,
    ],
)
async def test_an_enrolment_that_makes_no_sense_spends_no_token(
    plane: ControlPlane, body: bytes
) -> None:
    once = plane.store.add_enrolment(NODE)
    async with aiohttp.ClientSession(f"{plane.url}/node/v1/") as client:
        async with client.post("enrol", data=body, headers=bearer(once)) as answer:
            assert answer.status == 400
        async with client.post("enrol", json=WISH, headers=bearer(once)) as answer:
            assert answer.status == 200


async def test_the_agents_file_is_served_by_its_hash_alone(plane: ControlPlane) -> None:
    async with aiohttp.ClientSession(f"{plane.url}/node/v1/") as client:
        async with client.get(f"agent/{'ab' * 32}.pyz") as answer:
            assert (answer.status, await answer.read()) == (200, b"zip")
            assert "immutable" in answer.headers["Cache-Control"]
        async with client.get(f"agent/{'cd' * 32}.pyz") as answer:
            assert answer.status == 404


async def test_a_store_that_is_away_is_no_refusal(plane: ControlPlane) -> None:
    token = plane.store.add_node(NODE)
    plane.store.fail["node_by_token"] = 1
    with pytest.raises(LinkClosedError) as closed:
        async with dialled(plane, token):
            pass
    assert closed.value.code == 503


# Streams


async def test_a_stream_brings_the_file_and_its_ticket_is_good_once(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    content = bytes(range(256)) * 4000
    (tmp_path / "rescue").mkdir()
    (tmp_path / "rescue" / "w.bundle").write_bytes(content)
    tickets: list[str] = []
    async with aiohttp.ClientSession() as client:
        streams = Streams(client, plane.url, lambda: token, file_sources(Layout(state=tmp_path)))

        async def serve(wanted: OpenStream) -> None:
            tickets.append(wanted.ticket)
            await streams.serve(wanted)

        async with attached(plane.url, token, tmp_path / "n", serve=serve):
            await until(lambda: NODE in plane.link.connected())
            async with aclosing(plane.link.stream(NODE, "bundle", "w.bundle")) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == content
            for hostile in ("nothing", "../rescue/w.bundle", "..", "/etc/passwd"):
                with pytest.raises(NotFoundError):
                    await anext(plane.link.stream(NODE, "bundle", hostile))
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(
                    f"{plane.url}/node/v1/stream/{tickets[0]}", headers=bearer(token)
                )
            assert refused.value.status == 404


async def test_a_reader_that_stops_early_stops_the_sender(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    (tmp_path / "rescue").mkdir()
    with (tmp_path / "rescue" / "big").open("wb") as file:
        file.truncate(300 * 2**20)
    ended = asyncio.Event()
    async with aiohttp.ClientSession() as client:
        streams = Streams(client, plane.url, lambda: token, file_sources(Layout(state=tmp_path)))

        async def serve(wanted: OpenStream) -> None:
            await streams.serve(wanted)
            ended.set()

        async with attached(plane.url, token, tmp_path / "n", serve=serve):
            await until(lambda: NODE in plane.link.connected())
            async with aclosing(plane.link.stream(NODE, "bundle", "big")) as chunks:
                await anext(chunks)
            await until(ended.is_set)


@pytest.mark.parametrize("error", [OSError("cannot be read"), ValueError("bug")])
@pytest.mark.parametrize("sent", [[], [b"half of it"]])
async def test_a_stream_that_fails_on_its_way_is_not_taken_for_a_whole_one(
    plane: ControlPlane, tmp_path: Path, error: Exception, sent: list[bytes]
) -> None:
    async def cut(_: OpenStream) -> AsyncGenerator[bytes]:
        for piece in sent:
            yield piece
        raise error

    token = plane.store.add_node(NODE)
    async with aiohttp.ClientSession() as client:
        streams = Streams(client, plane.url, lambda: token, {"recording": cut})
        async with attached(plane.url, token, tmp_path / "n", serve=streams.serve):
            await until(lambda: NODE in plane.link.connected())
            async with aclosing(plane.link.stream(NODE, "recording", "w/t")) as chunks:
                assert [await anext(chunks) for _ in sent] == sent
                with pytest.raises(UnavailableError, match="was cut"):
                    await anext(chunks)


async def test_c6_a_ticket_of_one_node_is_not_good_for_another(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token, other = plane.store.add_node(NODE), plane.store.add_node("node-0000bbbb")
    async with attached(plane.url, token, tmp_path / "n") as agent, asyncio.TaskGroup() as group:
        await until(lambda: NODE in plane.link.connected())
        stream = plane.link.stream(NODE, "bundle", "x")
        reading = group.create_task(anext(stream))
        await until(lambda: agent.streams)
        with pytest.raises(LinkClosedError) as refused:
            async with dialled(plane, other, f"stream/{agent.streams[0].ticket}"):
                pass
        assert refused.value.code == 404
        async with dialled(plane, token, f"stream/{agent.streams[0].ticket}") as socket:
            await socket.send_bytes(b"mine")
            assert await reading == b"mine"
        await stream.aclose()


async def test_a_stream_that_nobody_opens_or_that_is_cut_is_unavailable(
    plane: ControlPlane, tmp_path: Path
) -> None:
    token = plane.store.add_node(NODE)
    with pytest.raises(UnavailableError):
        await anext(plane.link.stream(NODE, "bundle", "x"))
    plane.link._tickets._ticket_s_max = 0.2
    async with attached(plane.url, token, tmp_path / "n"):
        await until(lambda: NODE in plane.link.connected())
        with pytest.raises(UnavailableError):
            await anext(plane.link.stream(NODE, "bundle", "x"))
    assert plane.link._tickets._waiting == {}


# Hostile frames

OTHERS = (
    *("hello", "welcome", "ping", "pong", "ack", "order", "session_delta", "node_status"),
    *("credential_request", "credential", "open_stream"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPES = st.sampled_from([*REPORTS, *OTHERS, "odd"])
FRAMES = st.one_of(
    st.text(max_size=40),
    JSON.map(json.dumps),
    st.fixed_dictionaries(
        {"type": TYPES | JSON, "body": JSON, "seq": st.integers() | JSON, "ack": JSON}
    ).map(json.dumps),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(FRAMES, min_size=1, max_size=20))
async def test_c5_hostile_frames_leave_the_server_serving(
    plane: ControlPlane, texts: list[str]
) -> None:
    plane.store.db.execute("DELETE FROM node")
    token = plane.store.add_node(NODE)
    hello = Hello(
        protocol=PROTOCOL,
        node=NodeId(NODE),
        version="1",
        spool="x",
        received=0,
        cpus=1.0,
        memory_mb=1,
    )
    async with dialled(plane, token) as socket:
        await socket.send_str(frame(hello).encode())
        for text in texts:
            await socket.send_str(text.encode("utf-8", "replace").decode())
        last = Frame(type="odd", body={}, seq=2**62 + 1).encode()
        await socket.send_str(last)
        await until(lambda: any(row[1] == 2**62 + 1 for row in plane.store.dead()))
    plane.store.db.execute("DELETE FROM dead")
    await until(lambda: not plane.link.connected())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
