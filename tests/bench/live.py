"""1,000 viewers of one task at 100 events a second: how late is each event at each viewer?

Server and viewers are two processes on this machine. A viewer is a plain socket, so that what is
measured is the server and not the viewers.
"""

import asyncio
import multiprocessing
import re
import resource
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection

from tests.bench.row import ROUNDS, Row, told, within
from tests.fakes.story import ask
from tests.fakes.web import Setup, a_site

VIEWERS, EVENTS_PER_S, SECONDS = 1000, 100, 5
LAG_S_MAX = 0.5
_SENT = re.compile(rb"at=(\d+\.\d+);")


def main() -> Sequence[Row]:
    """Return lag, what was lost and what it cost, each against its limit."""
    rounds = [_round() for _ in range(ROUNDS)]
    wanted = VIEWERS * EVENTS_PER_S * SECONDS
    lags = [_p99(lags) for lags, _ in rounds]
    lost = [float(wanted - len(lags)) for lags, _ in rounds]
    cpu = [cpu_s for _, cpu_s in rounds]
    return [
        within("B14 1,000 viewers x 100 events/s: lag p99", lags, LAG_S_MAX, unit="s"),
        Row(name="B14 events that did not arrive", ours=lost, peer=(wanted,), goal=0, unit=""),
        told("B14 CPU of the server", cpu, unit="s/s"),
    ]


def _round() -> tuple[list[float], float]:
    """Return how late each event was at each viewer, and the server's CPU seconds a second."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_server, args=(theirs,))
    server.start()
    try:
        lags = asyncio.run(_viewers(ours))
        return lags, ours.recv()
    finally:
        server.join(20)
        server.kill()


def _p99(lags: list[float]) -> float:
    return sorted(lags)[int(len(lags) * 0.99)] if lags else float("inf")


def _server(pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    setup = Setup()
    task = await ask(setup.commands, setup.person, "Be watched")
    setup.commands.begin(task)
    async with a_site(setup) as site:
        pipe.send((site.url, site.cookie, task))
        await asyncio.to_thread(pipe.recv)
        started, cpu = time.monotonic(), time.process_time()
        for number in range(EVENTS_PER_S * SECONDS):
            text = f"at={time.time():.6f}; the coding agent says a sentence of usual length."
            setup.commands.speak(task, "notice", level="info", code="", text=text)
            due = started + (number + 1) / EVENTS_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.sleep(1)
        pipe.send((time.process_time() - cpu) / (time.monotonic() - started))
        await asyncio.to_thread(pipe.recv)


async def _viewers(pipe: Connection) -> list[float]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    url, cookie, task = await asyncio.to_thread(pipe.recv)
    port = int(url.rsplit(":", 1)[1])
    viewers = [_Viewer() for _ in range(VIEWERS)]
    request = f"GET /tasks/{task}/live HTTP/1.1\r\nHost: x\r\nCookie: samovar={cookie}\r\n\r\n"
    loop = asyncio.get_running_loop()
    for viewer in viewers:
        await loop.create_connection(partial(_same, viewer), "127.0.0.1", port)
        viewer.transport.write(request.encode())
    while not all(viewer.is_on for viewer in viewers):
        await asyncio.sleep(0.05)
    pipe.send("go")
    end = loop.time() + SECONDS + 15
    wanted = EVENTS_PER_S * SECONDS
    while loop.time() < end and any(len(viewer.lags) < wanted for viewer in viewers):
        await asyncio.sleep(0.2)
    for viewer in viewers:
        viewer.transport.close()
    pipe.send("end")
    return [lag for viewer in viewers for lag in viewer.lags]


def _same(viewer: "_Viewer") -> "_Viewer":
    return viewer


class _Viewer(asyncio.Protocol):
    """Notes how old each event is when it comes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.is_on = False
        self.lags: list[float] = []
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.is_on = True
        now = time.time()
        data = self._rest + data
        end = 0
        for found in _SENT.finditer(data):
            self.lags.append(now - float(found[1]))
            end = found.end()
        self._rest = data[max(end, len(data) - 64) :]
