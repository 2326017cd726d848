"""TCP ports of a workspace: what listens there, and connections to it.

What listens is read of the kernel by the container's first process (proc(5), /proc/pid/net); no
program of the container is asked. A connection is made from inside: its socket is born in the
container's network namespace, so what listens on the container's own 127.0.0.1 is reached too.
"""

import asyncio
import ctypes
import ipaddress
import json
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import NodeError
from core.browse import Port, Ports
from core.viewing import View, ViewClosedError
from core.wire import STREAM_CHUNK_BYTES

CONNECT_S_MAX = 10.0
TAKE_S_MAX = 600.0
"""How long a program may take nothing of what is sent to it: one that is being debugged stands
still. The other side may have gone meanwhile; nobody hears of that behind what waits."""
FLUSH_S_MAX = 5.0
"""How long a program may take for the rest when the other side has ended the connection."""
CLOSE_CUT = 1011
"""The workspace's side of a connection broke off: what came is not whole."""
NAME_CHARS_MAX = 60
_LISTENS = "0A"
_DOCKER_DNS = ipaddress.ip_address("127.0.0.11")
"""Docker's own resolver listens there in containers of a network that people made."""
_CLONE_NEWNET = 0x40000000
_setns = ctypes.CDLL(None, use_errno=True).setns


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """One listening socket. A port may have several."""

    port: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address

    @property
    def reached_at(self) -> Sequence[str]:
        """The addresses to connect to: what listens everywhere is reached at home.

        `::` takes IPv4 as well, unless it was told not to, and may be without any IPv6.
        """
        if self.address.is_unspecified:
            return ["127.0.0.1"] if self.address.version == 4 else ["::1", "127.0.0.1"]
        return [str(self.address)]


def parsed(table: str) -> Iterator[Listener]:
    """Read `/proc/net/tcp` or `tcp6`; lines of another shape are left out."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTENS:
            continue
        address, _, port = fields[1].partition(":")
        with suppress(ValueError):
            yield Listener(int(port, 16), _address(bytes.fromhex(address)))


def _address(raw: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address of words of four bytes, each in this machine's order."""
    if len(raw) not in {4, 16}:
        raise ValueError(f"{len(raw)} bytes are no address")
    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
    found = ipaddress.ip_address(
        b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    )
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def listening(pid: int) -> Sequence[Listener]:
    """Return what listens in the network namespace of a process, by port; nothing if it is gone."""
    found: set[Listener] = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            found.update(parsed(Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii")))
    return sorted(
        (one for one in found if one.address != _DOCKER_DNS),
        key=lambda one: (one.port, one.address.version, one.address.packed),
    )


def named(listeners: Sequence[Listener], labels: Mapping[str, str]) -> Ports:
    """Return the ports that are shown, with the names that the devcontainer gives them."""
    attributes = _attributes(labels.get("devcontainer.metadata", ""))
    shown = dict.fromkeys(one.port for one in listeners)
    return Ports(
        ports=tuple(
            Port(number=port, name=_name(attributes.get(port, {})))
            for port in shown
            if attributes.get(port, {}).get("onAutoForward") != "ignore"
        )
    )


def _attributes(metadata: str) -> dict[int, dict[str, Any]]:
    """Return `portsAttributes` by port of the label that the devcontainer CLI writes.

    https://containers.dev/implementors/json_reference/#port-attributes; a later part wins.
    """
    found: dict[int, dict[str, Any]] = {}
    with suppress(ValueError, RecursionError):
        parts = json.loads(metadata)
        for part in parts if isinstance(parts, list) else [parts]:
            given = part.get("portsAttributes") if isinstance(part, dict) else None
            for port, values in given.items() if isinstance(given, dict) else ():
                if re.fullmatch(r"[0-9]{1,5}", port) and isinstance(values, dict):
                    found[int(port)] = found.get(int(port), {}) | values
    return found


def _name(values: Mapping[str, Any]) -> str:
    label = values.get("label")
    return label[:NAME_CHARS_MAX] if isinstance(label, str) else ""


async def connect(pid: int, port: int) -> socket.socket:
    """Return a connection to what listens on a port of a process's network namespace.

    Raises:
        NodeError: `nothing_listens`, or `ports_not_reached` where this agent may not go in.
    """
    for one in listening(pid):
        for address in one.reached_at if one.port == port else ():
            with suppress(OSError, TimeoutError):
                return await _connected(pid, address, port)
    raise NodeError("nothing_listens", f"Nothing listens on port {port} of the workspace.")


async def _connected(pid: int, address: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    inside = ThreadPoolExecutor(1)  # Its thread ends with this call and enters no other namespace.
    try:
        sock = await loop.run_in_executor(inside, _born_in, pid, family)
    finally:
        inside.shutdown(wait=False)
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            await loop.sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _born_in(pid: int, family: socket.AddressFamily) -> socket.socket:
    """Return a socket of another network namespace. The calling thread stays there."""
    try:
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            if _setns(namespace.fileno(), _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))  # Its kind follows from the number.
    except PermissionError as error:
        raise NodeError(
            "ports_not_reached",
            "The node agent must run as root to reach the ports of workspaces; start it so.",
        ) from error
    sock = socket.socket(family)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def pass_on(pipe: View, sock: socket.socket) -> None:
    """Say that there is a connection, then pass bytes both ways until one side ends it.

    An app that takes nothing more holds nobody up for ever, and not at all who is cancelled.
    """
    reader, writer = await asyncio.open_connection(sock=sock, limit=STREAM_CHUNK_BYTES)
    try:
        await _both_ways(pipe, reader, writer)
        writer.close()
        with suppress(OSError):
            async with asyncio.timeout(FLUSH_S_MAX):
                await writer.wait_closed()
    finally:
        writer.close()
        if writer.transport.get_write_buffer_size():  # asyncio aborts nothing that is closed.
            writer.transport.abort()


async def _both_ways(
    pipe: View, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes until one side ends; the pipe learns how the workspace's did."""
    code = 1000
    try:
        await pipe.send(b"")
        async with asyncio.TaskGroup() as group:
            saying = group.create_task(_say(pipe, writer))
            await _hear(reader, pipe)
            saying.cancel()
    except* ViewClosedError:
        pass
    except* OSError:
        code = CLOSE_CUT
    await pipe.close(code, "")


async def _say(pipe: View, writer: asyncio.StreamWriter) -> None:
    """Pass on what the other side says, until `ViewClosedError`, or `OSError` of the workspace."""
    while True:
        writer.write(await pipe.receive())
        async with asyncio.timeout(TAKE_S_MAX):
            await writer.drain()


async def _hear(reader: asyncio.StreamReader, pipe: View) -> None:
    """Pass on what the workspace says, to its end."""
    while data := await reader.read(STREAM_CHUNK_BYTES):
        await pipe.send(data)
