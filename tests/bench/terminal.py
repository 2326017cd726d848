"""B7: a terminal held inside the container, against a PTY on the host with `docker exec -it` in it.

Both in one container, as the same user, in turn. A new tab is measured to the first word of its
shell; an echo from a key to its byte by way of `cat`; throughput and processor time by output that
somebody reads as fast as it comes. Throughput is also compared with what the kernel is able to: a
PTY with nobody between it and its reader. Processor time is that of all who pass the bytes on: ours
of the reader and the holder, the peer's of the reader, the docker command and Docker's own
processes. So measure on a machine where nobody else uses Docker.
"""

import asyncio
import os
import pty
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiodocker

from agent.terminal.held_line import Door, HeldLine
from agent.terminal.line import Line
from tests.bench.outside import base_image, docker_host
from tests.bench.row import NotRun, Row, told
from tests.fakes.terminals import Bench, container_bench, host_processes, read_until

ROUNDS, KEYS, IDLE, OUTPUT_BYTES = 7, 300, 20, 100_000_000
LIMIT_S = 60
DOCKER = (b"dockerd ", b"containerd", b"docker exec")
READY = "stty raw -echo; echo ready; "
ECHO = f"{READY}exec cat"
FLOOD = f"{READY}head -c 1; exec head -c {OUTPUT_BYTES} /dev/zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one side needed in one round."""

    tab_ms: float
    echo_us: float
    output_ms: float
    cpu_ms: float


async def ours(bench: Bench) -> Round:
    began = time.perf_counter()
    line = await bench.lines.open(bench.shell("sh", "-c", ECHO))
    await read_until(line, b"ready\n")
    tab = time.perf_counter() - began
    echoes = [await _our_echo(line) for _ in range(KEYS)]
    await _end(line)
    line = await bench.lines.open(bench.shell("sh", "-c", FLOOD))
    await read_until(line, b"ready\n")
    holder = Door.of(bench.shell()).name.encode()
    busy, began = _cpu_ms(holder), time.perf_counter()
    await line.write(b"x")
    while (await line.read())[1]:
        pass
    took = time.perf_counter() - began
    busy = _cpu_ms(holder) - busy
    await _end(line)
    return _round(tab, echoes, took, busy)


async def _our_echo(line: Line) -> float:
    began = time.perf_counter()
    await line.write(b"x")
    await line.read()
    return time.perf_counter() - began


async def _end(line: Line) -> None:
    await line.hang_up()
    await line.close()


def peer(bench: Bench) -> Round:
    began = time.perf_counter()
    with _attached(bench, ECHO) as master:
        tab = time.perf_counter() - began
        echoes = [_peer_echo(master) for _ in range(KEYS)]
    with _attached(bench, FLOOD) as master:
        busy, began = _cpu_ms(*DOCKER), time.perf_counter()
        os.write(master, b"x")
        seen = 0
        while seen < OUTPUT_BYTES:
            seen += len(os.read(master, 65536))
        took = time.perf_counter() - began
        busy = _cpu_ms(*DOCKER) - busy
    return _round(tab, echoes, took, busy)


def _peer_echo(master: int) -> float:
    began = time.perf_counter()
    os.write(master, b"x")
    os.read(master, 100)
    return time.perf_counter() - began


def floor_ms() -> float:
    """Return how long the output takes through a PTY with nobody between it and its reader."""
    master, slave = pty.openpty()
    with subprocess.Popen(("sh", "-c", FLOOD), stdin=slave, stdout=slave, stderr=slave):
        os.close(slave)
        said = b""
        while b"ready" not in said:
            said += os.read(master, 100)
        os.set_blocking(master, False)
        with select.epoll() as poll:
            poll.register(master, select.EPOLLIN)
            began = time.perf_counter()
            os.write(master, b"x")
            seen = 0
            while seen < OUTPUT_BYTES:
                poll.poll()
                with suppress(BlockingIOError):
                    while seen < OUTPUT_BYTES:
                        seen += len(os.read(master, 65536))
            took = time.perf_counter() - began
        os.close(master)
    return took * 1e3


@contextmanager
def _attached(bench: Bench, script: str) -> Iterator[int]:
    """Give a PTY in which a shell said that it is ready."""
    command = ("docker", "exec", "-it", "-u", bench.user, bench.container, "sh", "-c", script)
    master, slave = pty.openpty()
    child = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        said = b""
        while b"ready" not in said:
            said += os.read(master, 100)
        yield master
    finally:
        os.close(master)
        child.kill()
        child.wait()


def _round(tab_s: float, echoes_s: Sequence[float], output_s: float, busy_ms: float) -> Round:
    return Round(
        tab_ms=tab_s * 1e3,
        echo_us=statistics.median(echoes_s) * 1e6,
        output_ms=output_s * 1e3,
        cpu_ms=busy_ms,
    )


def _cpu_ms(*words: bytes) -> float:
    """Return the processor time of this process and of those with a word in their command."""
    others = [pid for pid, command in host_processes() if any(word in command for word in words)]
    ticks = 0
    for pid in {os.getpid(), *others}:
        with suppress(OSError):  # Of a stranger that has ended.
            ticks += sum(
                map(int, Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[11:13])
            )
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


async def _idle_kb(bench: Bench) -> float:
    """Return the memory of the holder that one more idle terminal costs."""
    before = _rss_kb(bench)
    lines = [await bench.lines.open(bench.shell("cat")) for _ in range(IDLE)]
    each = (_rss_kb(bench) - before) / IDLE
    for line in lines:
        await _end(line)
    return each


def _rss_kb(bench: Bench) -> float:
    name = Door.of(bench.shell()).name.encode()
    for pid, command in host_processes():
        if name in command:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            return float(next(line.split()[1] for line in lines if line.startswith("VmRSS")))
    raise NotRun("the processes of containers cannot be seen here")


@asynccontextmanager
async def _bench(folder: Path) -> AsyncGenerator[Bench]:
    if shutil.which("docker") is None:
        raise NotRun("no docker command to compare with")
    async with aiodocker.Docker(url=docker_host()) as docker:
        await base_image(docker)
    async with container_bench(folder, has_python=True) as bench:
        yield bench


async def _run(folder: Path) -> Sequence[Row]:
    one: list[Round] = []
    other: list[Round] = []
    floor: list[float] = []
    async with asyncio.timeout(LIMIT_S * ROUNDS), _bench(folder) as bench:
        began = time.perf_counter()
        line = await bench.lines.open(bench.shell("sh", "-c", ECHO))
        await read_until(line, b"ready\n")
        first_ms = (time.perf_counter() - began) * 1e3
        if not isinstance(line, HeldLine):
            raise NotRun("the default image has no Python")
        await _end(line)
        bare_kb = _rss_kb(bench)
        idle_kb = await _idle_kb(bench)
        for _ in range(ROUNDS):
            one.append(await ours(bench))
            other.append(peer(bench))
            floor.append(await asyncio.to_thread(floor_ms))
    return [
        Row(
            name=f"B7 {name} / host PTY with docker exec -it",
            ours=[getattr(each, which) for each in one],
            peer=[getattr(each, which) for each in other],
            goal=goal,
            unit=unit,
        )
        for name, which, goal, unit in (
            ("new tab", "tab_ms", 0.2, "ms"),
            ("echo", "echo_us", 0.75, "us"),
            ("100 MB of output", "output_ms", 0.6, "ms"),
            ("processor time of 100 MB", "cpu_ms", 0.5, "ms"),
        )
    ] + [
        Row(
            name="B7 100 MB of output / bare PTY",
            ours=[each.output_ms for each in one],
            peer=floor,
            goal=1.25,
        ),
        told("first tab, with the start of the holder", [first_ms]),
        told("memory of the holder", [bare_kb], unit="KB"),
        told("memory of one more idle terminal", [idle_kb], unit="KB"),
    ]


def main() -> Sequence[Row]:
    """Run both sides in turn."""
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as folder:
        return asyncio.run(_run(Path(folder)))
