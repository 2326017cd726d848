"""B8 to B11: terminals from a viewer's WebSocket to a PTY in a container and back.

Ours is every part of the product on loopback: web server, node link, node agent, log, holder, PTY,
in the processes that they are in life, with what a viewer says it has drawn. The peer of B8 and B9
does the same by what one would take instead: nginx, behind it terminado, the server of terminals
that Jupyter has, and in its PTYs `docker exec -it`. Nothing is kept there, and it ends with its
server. terminado alone, its shells beside it, is the floor. The peer of B10 is ours without
waiting for what was drawn. Ours and a peer take turns.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from agent.terminal.watcher import WINDOW_BYTES
from core.viewing import OUTPUT_BYTES_MAX
from tests.bench import peers
from tests.bench.outside import docker_host
from tests.bench.row import ROUNDS, Row, within
from tests.fakes import terminal_stack
from tests.fakes.terminal_stack import Plan, Stack, Viewer, stack, viewing
from tests.fakes.terminals import container_bench

KEYS = 300
TERMINALS, KEYS_PER_S, CROWD_S = 200, 5, 5
DRAWN_BYTES_S = 4_000_000
"""How fast a viewer of B10 draws: a browser at a busy moment."""
FLOOD_S = 1.5
STALLED_BYTES = 60_000_000
TEXT = "".join(f"{number:06d} 漢字🙂é\n" for number in range(64_000)).encode()
"""1.28 MB."""
HELD_S, HELD_PER_S = 60, 30
RECONNECTS = 100

READY = "stty raw -echo; printf 'ready\\n'; "
ECHO = f"{READY}exec cat"
FLOOD = (
    "printf 'ready\\n'; trap 'printf \"\\nquiet\\n\"; exit 0' INT; read go; "
    "yes 0123456789012345678901234567890123456789"
)
PROGRAMS = {
    "e": ECHO,
    "f": FLOOD,
    "b": f"{READY}head -c 1 >/dev/null; exec head -c {STALLED_BYTES} /dev/zero",
    "c": f"{READY}head -c 1 >/dev/null; stty -raw; "
    'i=0; while [ $i -lt 60000 ]; do echo "漢 $i"; i=$((i+1)); done; echo over',
}


def main() -> Sequence[Row]:
    """Run all sides in turn."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, files), files))
    docker_host()
    plan = Plan(programs=PROGRAMS, in_containers=True)
    with stack(plan) as ours, stack(replace(plan, has_acks=False)) as free:
        return asyncio.run(_run(ours, free))


async def _run(ours: Stack, free: Stack) -> Sequence[Row]:
    async with AsyncExitStack() as open_:
        client = await open_.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        here, bare = _Ours(client, ours.url), _Ours(client, free.url)
        there = _Terminado(client, await open_.enter_async_context(_by_docker_exec()))
        floor = _Terminado(client, open_.enter_context(_terminado("sh", "-c", ECHO)))
        sides = (here, there, floor)
        echoes = [[await _echo_us(side) for side in sides] for _ in range(ROUNDS)]
        crowds = [[await _crowd(side) for side in sides] for _ in range(ROUNDS)]
        quiets = [(await _quiet_ms(here), await _quiet_ms(bare)) for _ in range(ROUNDS)]
        grown = [await _grown_kb(here, ours) for _ in range(ROUNDS)]
        changed = [await _changed(here) for _ in range(ROUNDS)]
        held = [float(await _lost_keys(here))]
        lost = [float(await _lost_over_reconnects(here)) for _ in range(ROUNDS)]
    ours_us, peer_us, floor_us = zip(*echoes, strict=True)
    waits = [[side.p99_ms for side in one] for one in crowds]
    ours_ms, peer_ms, floor_ms = zip(*waits, strict=True)
    by_exec, crowd = "nginx, terminado, docker exec", "B9 200 terminals x 5 keys/s: p99"
    return [
        Row(name=f"B8 echo / {by_exec}", ours=ours_us, peer=peer_us, goal=0.9, unit="us"),
        Row(name="B8 echo / terminado alone", ours=ours_us, peer=floor_us, unit="us"),
        Row(name=f"{crowd} / {by_exec}", ours=ours_ms, peer=peer_ms, goal=0.6),
        Row(name=f"{crowd} / terminado alone", ours=ours_ms, peer=floor_ms),
        _none("B9 keys without an answer", [one.lost for one, *_ in crowds], CROWD_KEYS),
        Row(
            name="B10 Ctrl-C to silence / without acknowledgements",
            ours=[one for one, _ in quiets],
            peer=[other for _, other in quiets],
            goal=0.15,
        ),
        within(
            "B10 memory for a stalled viewer, window + 2 MB",
            grown,
            (WINDOW_BYTES + OUTPUT_BYTES_MAX) / 1024 + 2048,
            unit="KB",
        ),
        _none("B11 bytes of 1.28 MB of UTF-8 that changed", changed, len(TEXT)),
        _none("B11 keys lost or repeated of one held for 60 s", held, HELD_S * HELD_PER_S),
        _none("B11 lines lost or repeated over 100 reconnects", lost, 60_000),
    ]


CROWD_KEYS = TERMINALS * KEYS_PER_S * CROWD_S


def _none(name: str, ours: Sequence[float], of: int) -> Row:
    """Return a row that one bad round is enough to miss."""
    return Row(name=name, ours=[max(ours)], peer=(of,), goal=0, unit="")


# Both sides, as a viewer sees them


class _Ours:
    """Terminals of ours by their program's letter; each is a new one."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url
        self._made = 0

    def new(self, letter: str) -> str:
        """Return the id of one more terminal."""
        self._made += 1
        return f"t-{letter}{self._made:07x}"

    @asynccontextmanager
    async def at(
        self, terminal: str, *, seen: int | None = None, bytes_s: float = float("inf")
    ) -> AsyncGenerator[Viewer]:
        url = f"{self._url}{terminal}"
        async with viewing(self._client, url, seen=seen, bytes_s=bytes_s) as viewer:
            yield viewer

    @asynccontextmanager
    async def echo(self, number: int | None = None) -> AsyncGenerator[Viewer]:
        terminal = self.new("e") if number is None else f"t-e9{number:06x}"
        async with self.at(terminal) as viewer:
            await viewer.draw_until(b"ready")
            yield viewer


class _Terminado:
    """Terminals of terminado, one shell each."""

    def __init__(self, client: aiohttp.ClientSession, port: int) -> None:
        self._client = client
        self._url = f"ws://127.0.0.1:{port}/shell"

    @asynccontextmanager
    async def echo(self, _number: int | None = None) -> AsyncGenerator["_TerminadoShell"]:
        async with self._client.ws_connect(self._url, compress=0) as socket:
            shell = _TerminadoShell(socket)
            seen = b""
            while b"ready" not in seen:
                seen += await shell.draw()
            yield shell


@dataclass
class _TerminadoShell:
    socket: aiohttp.ClientWebSocketResponse

    async def type(self, data: bytes) -> None:
        await self.socket.send_str(json.dumps(["stdin", data.decode()]))

    async def draw(self) -> bytes:
        kind, *words = json.loads(await self.socket.receive_str())
        return words[0].encode() if kind == "stdout" else b""


@contextmanager
def _terminado(*command: str) -> Generator[int]:
    """Serve terminals in which a command runs; give the port."""
    program = Path(terminal_stack.__file__).with_name("terminado_server.py")
    words = (peers.terminado(), str(program), *command)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@asynccontextmanager
async def _by_docker_exec() -> AsyncGenerator[int]:
    """Serve terminals in a container by what others made; give the port."""
    with tempfile.TemporaryDirectory(prefix="samovar-") as folder:
        async with container_bench(Path(folder), has_python=True) as bench:
            enter = ("docker", "exec", "-it", "-u", bench.user, bench.container)
            with _terminado(*enter, "sh", "-c", ECHO) as behind, peers.nginx(behind) as port:
                yield port


# B8, B9


async def _echo_us(side: _Ours | _Terminado) -> float:
    """Return the median of a round's keys."""
    async with side.echo() as shell:
        took = []
        for _ in range(KEYS):
            began = time.perf_counter()
            await shell.type(b"x")
            while not await shell.draw():
                pass
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


@dataclass(frozen=True)
class _Crowd:
    p99_ms: float
    lost: float


async def _crowd(side: _Ours | _Terminado) -> _Crowd:
    """Type in many terminals at once, each at its own beat."""
    late: list[float] = []
    async with AsyncExitStack() as open_:
        shells = [await open_.enter_async_context(side.echo(number)) for number in range(TERMINALS)]
        async with asyncio.TaskGroup() as group:
            for number, shell in enumerate(shells):
                group.create_task(_type_along(shell, number / TERMINALS / KEYS_PER_S, late))
    p99 = sorted(late)[int(len(late) * 0.99)] if late else float("inf")
    return _Crowd(p99 * 1e3, CROWD_KEYS - len(late))


async def _type_along(shell: Viewer | _TerminadoShell, after_s: float, late: list[float]) -> None:
    began = time.perf_counter() + after_s
    for number in range(KEYS_PER_S * CROWD_S):
        due = began + number / KEYS_PER_S
        await asyncio.sleep(due - time.perf_counter())
        typed = time.perf_counter()
        await shell.type(b"x")
        try:
            async with asyncio.timeout(10):
                while not await shell.draw():
                    pass
        except TimeoutError:
            return  # This key and the rest of the shell's have no answer.
        late.append(time.perf_counter() - typed)


# B10


async def _quiet_ms(side: _Ours) -> float:
    """Return how long a flooding program is still to be seen after Ctrl-C."""
    async with side.at(side.new("f"), bytes_s=DRAWN_BYTES_S) as viewer:
        await viewer.draw_until(b"ready")
        await viewer.type(b"\n")
        end = time.perf_counter() + FLOOD_S
        while time.perf_counter() < end:
            await viewer.draw()
        began = time.perf_counter()
        await viewer.type(b"\x03")
        await viewer.draw_until(b"quiet")
        return (time.perf_counter() - began) * 1e3


async def _grown_kb(side: _Ours, stack: Stack) -> float:
    """Return by how much both processes grew for a viewer that draws nothing of 60 MB."""
    async with side.at(side.new("b")) as stalled:
        await stalled.draw_until(b"ready")
        before = _rss_kb(stack)
        await stalled.type(b"x")
        peak, still = before, 0
        while still < 30:  # Until neither process has grown for three seconds.
            await asyncio.sleep(0.1)
            now = _rss_kb(stack)
            peak, still = (now, 0) if now > peak else (peak, still + 1)
        return peak - before


def _rss_kb(stack: Stack) -> float:
    return sum(_of(pid) for pid in (stack.control, stack.node))


def _of(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


# B11


async def _changed(side: _Ours) -> float:
    """Return how many bytes of a text came back otherwise."""
    async with side.echo() as viewer:
        began = len(viewer.output)

        async def say() -> None:
            for at in range(0, len(TEXT), 16_384):
                await viewer.type(TEXT[at : at + 16_384])

        async with asyncio.TaskGroup() as group, asyncio.timeout(120):
            group.create_task(say())
            while len(viewer.output) - began < len(TEXT):
                await viewer.draw()
        back = bytes(viewer.output[began:])
    return sum(one != other for one, other in zip(back, TEXT, strict=True))


async def _lost_keys(side: _Ours) -> int:
    """Hold a key down for a minute."""
    async with side.echo() as viewer:
        began, start = len(viewer.output), time.perf_counter()

        async def hold() -> None:
            for number in range(HELD_S * HELD_PER_S):
                await asyncio.sleep(start + number / HELD_PER_S - time.perf_counter())
                await viewer.type(b"k")

        async with asyncio.TaskGroup() as group:
            holding = group.create_task(hold())
            with suppress(TimeoutError):
                while not holding.done() or len(viewer.output) - began < HELD_S * HELD_PER_S:
                    await asyncio.wait_for(viewer.draw(), 10)
        return abs(HELD_S * HELD_PER_S - viewer.output[began:].count(b"k"))


async def _lost_over_reconnects(side: _Ours) -> int:
    """Cut the connection again and again while a program counts; compare with the count."""
    terminal, seen, got = side.new("c"), None, bytearray()
    for number in range(RECONNECTS):
        async with side.at(terminal, seen=seen) as viewer:
            if number == 0:
                await viewer.draw_until(b"ready")
                viewer.output.clear()
                await viewer.type(b"x")
            wanted = 600_000 // RECONNECTS
            while len(viewer.output) < wanted and not viewer.has_ended:
                await viewer.draw()
            got, seen = got + viewer.output, viewer.at
    async with side.at(terminal, seen=seen) as viewer:
        while not viewer.has_ended:
            await viewer.draw()
        got += viewer.output
    lines = got.decode().split("\r\n")
    numbers = [int(line.split()[1]) for line in lines if line.startswith("漢 ")]
    return abs(60_000 - len(numbers)) + (numbers != list(range(60_000)))
