"""The kernel's tables of sockets, the devcontainer's names, and connections."""

import asyncio
import ipaddress
import json
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory.nodes import a_view
from agent.errors import NodeError
from agent.ports import CLOSE_CUT, Listener, connect, listening, named, parsed, pass_on
from core.browse import Port, Ports
from core.viewing import View, ViewClosedError
from core.wire import STREAM_CHUNK_BYTES

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def line(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, state: str) -> str:
    words = struct.iter_unpack("!I", address.packed)
    order = "<I" if sys.byteorder == "little" else ">I"
    host = "".join(struct.pack(order, word).hex().upper() for (word,) in words)
    return f"   0: {host}:{port:04X} {'0' * len(host)}:0000 {state} 00000000:00000000 00:00000000"


@given(st.lists(st.tuples(addresses, st.integers(1, 65535))))
def test_what_the_kernel_writes_is_what_is_read(sockets: list[tuple[object, int]]) -> None:
    table = "\n".join([HEAD, *(line(a, p, "0A") for a, p in sockets)])  # type: ignore[arg-type]
    plain = [(getattr(a, "ipv4_mapped", None) or a, p) for a, p in sockets]
    assert [(one.address, one.port) for one in parsed(table)] == plain


@given(addresses, st.integers(1, 65535), st.integers(1, 12).filter(lambda n: n != 10))
def test_only_what_listens_is_read(address: object, port: int, state: int) -> None:
    table = f"{HEAD}\n{line(address, port, f'{state:02X}')}"  # type: ignore[arg-type]
    assert list(parsed(table)) == []


@given(st.text())
def test_any_other_text_has_no_listeners_or_some_that_are_sane(text: str) -> None:
    for one in parsed(text):
        assert isinstance(one, Listener)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_a_label_of_any_shape_gives_no_names(metadata: str) -> None:
    there = [Listener(80, ipaddress.ip_address("0.0.0.0"))]
    assert named(there, {"devcontainer.metadata": metadata}) == Ports(ports=(Port(number=80),))


def test_names_are_those_of_the_devcontainer_and_a_later_part_wins() -> None:
    parts = [
        {"portsAttributes": {"80": {"label": "Old", "protocol": "http"}, "81": {"label": "Two"}}},
        {"portsAttributes": {"80": {"label": "New"}, "82": {"onAutoForward": "ignore"}}},
        {"portsAttributes": {"3000-3010": {"label": "Many"}, "83": {"label": 7}}},
    ]
    there = [Listener(port, ipaddress.ip_address("::")) for port in (80, 80, 81, 82, 83)]
    found = named(there, {"devcontainer.metadata": json.dumps(parts)})
    assert found.ports == (
        Port(number=80, name="New"),
        Port(number=81, name="Two"),
        Port(number=83),
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_namespace_is_entered_by_its_process(address: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, address, 0)
    port = server.sockets[0].getsockname()[1]
    before = Path("/proc/self/ns/net").stat().st_ino
    assert port in {one.port for one in listening(os.getpid())}
    sock = await connect(os.getpid(), port)
    reader, writer = await asyncio.open_connection(sock=sock)
    assert await reader.read() == b"hello"
    writer.close()
    server.close()
    assert Path("/proc/self/ns/net").stat().st_ino == before
    with pytest.raises(NodeError, match="Nothing listens"):
        await connect(os.getpid(), port)


async def test_a_process_that_is_gone_has_no_ports() -> None:
    assert listening(0) == []
    with pytest.raises(NodeError, match="Nothing listens"):
        await connect(0, 80)


async def test_bytes_pass_both_ways_and_each_end_is_learned() -> None:
    ours, theirs = a_view()
    app, sock = socket.socketpair()
    async with asyncio.TaskGroup() as group:
        group.create_task(pass_on(theirs, sock))
        assert await ours.receive() == b""
        await ours.send(b"ping")
        reader, writer = await asyncio.open_connection(sock=app)
        assert await reader.read(10) == b"ping"
        writer.write(b"pong")
        writer.close()
        assert await ours.receive() == b"pong"
        with pytest.raises(ViewClosedError) as closed:
            await ours.receive()
        assert closed.value.code == 1000


async def test_the_app_learns_that_the_other_side_is_gone() -> None:
    ours, theirs = a_view()
    app, sock = socket.socketpair()
    async with asyncio.TaskGroup() as group:
        group.create_task(pass_on(theirs, sock))
        assert await ours.receive() == b""
        await ours.close(1000, "")
        reader, writer = await asyncio.open_connection(sock=app)
        assert await reader.read() == b""
        writer.close()


async def test_an_app_that_takes_nothing_holds_up_nobody_who_is_cancelled() -> None:
    ours, theirs = a_view()
    app, sock = socket.socketpair()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        passing = group.create_task(pass_on(theirs, sock))
        await fill(ours)
        passing.cancel()
    app.close()


async def test_the_rest_reaches_the_app_after_the_other_side_has_ended_it() -> None:
    ours, theirs = a_view()
    app, sock = socket.socketpair()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    rest = b"x" * STREAM_CHUNK_BYTES
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(pass_on(theirs, sock))
        assert await ours.receive() == b""
        await ours.send(rest)
        await asyncio.sleep(0)  # It is taken from the pipe.
        await ours.close(1000, "")
        reader, writer = await asyncio.open_connection(sock=app)
        assert await reader.read() == rest
        writer.close()


async def fill(pipe: View) -> None:
    """Send until nothing more is taken."""
    assert await pipe.receive() == b""
    with suppress(TimeoutError):
        while True:
            await asyncio.wait_for(pipe.send(b"x" * STREAM_CHUNK_BYTES), 0.3)


async def test_a_connection_that_breaks_off_is_no_good_end() -> None:
    async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = struct.pack("ii", 1, 0)  # Closing sends a reset.
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    ours, theirs = a_view()
    sock = await connect(os.getpid(), server.sockets[0].getsockname()[1])
    async with asyncio.TaskGroup() as group:
        group.create_task(pass_on(theirs, sock))
        assert await ours.receive() == b""
        with pytest.raises(ViewClosedError) as closed:
            await ours.receive()
        assert closed.value.code == CLOSE_CUT
    server.close()
