"""Shells to look at: behind a holder on this machine, behind one in a container, by docker exec."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.docker import Engine
from agent.launcher import INSIDE
from agent.terminal import holder
from agent.terminal.held_line import FOLDER, AwayError, Door, HeldLine
from agent.terminal.line import Line, Lines, Shell
from agent.terminal.lines import ContainerLines
from core.ids import TerminalId
from core.viewing import Size
from tests.fakes.lacking import lacking
from tests.fakes.node_world import base_image

USER, UID = "dev", 1000
PROGRAM = Path(holder.__file__)


@dataclass(kw_only=True)
class Bench:
    """One place where shells can be opened.

    Attributes:
        inside: The run directory as the shells see it.
        mark: Seconds that no other sleeps.
    """

    lines: Lines
    run_dir: Path
    inside: str
    home: str
    user: str
    container: str = "here"
    engine: Engine | None = None
    opened: list[Line] = field(default_factory=list)
    mark: str = field(default_factory=lambda: str(uuid.uuid4().int % 10**8 + 10**8))

    def shell(self, *command: str, **changes: Any) -> Shell:
        values: dict[str, Any] = {
            "terminal": TerminalId(f"t-{uuid.uuid4().hex[:8]}"),
            "container": self.container,
            "user": self.user,
            "folder": self.home,
            "env": {"PATH": os.defpath, "HOME": self.home},
            "run_dir": self.run_dir,
            "size": Size(80, 24),
            "command": command,
        }
        return Shell(**(values | changes))

    def script(self, text: str, **changes: Any) -> Shell:
        """Return a shell that runs a script; `$1` is a folder that we see too."""
        return self.shell("sh", "-c", text, "sh", f"{self.inside}/{FOLDER}", **changes)

    async def open(self, shell: Shell) -> Line:
        line = await self.lines.open(shell)
        self.opened.append(line)
        return line

    async def find(self, shell: Shell, *, after: int) -> Line | None:
        line = await self.lines.find(shell, after=after)
        self.opened += [line] if line else []
        return line

    def file(self, name: str) -> Path:
        return self.run_dir / FOLDER / name

    async def processes(self, word: str) -> int:
        """Return how many processes inside have this word in their command."""
        return sum(word.encode() in line for line in await self._commands())

    async def _commands(self) -> list[bytes]:
        if self.engine is None:
            return [command for _, command in host_processes()]
        script = 'for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline; echo; done 2>/dev/null'
        done = await self.engine.run(self.container, ["sh", "-c", script], user="0", folder="/")
        return [line for line in done.out.splitlines() if b"/proc/" not in line]


class HostLines:
    """Shells of this machine behind a holder, started as in a container."""

    async def open(self, shell: Shell) -> Line:
        with suppress(AwayError):
            return await HeldLine.open(shell)
        assert await start_holder(shell) == 0
        return await HeldLine.open(shell)

    async def find(self, shell: Shell, *, after: int) -> Line | None:
        return await HeldLine.find(shell, after=after)


async def start_holder(shell: Shell) -> int:
    """Start a holder on this machine; return its exit code once it is in the background."""
    door = Door.of(shell)
    words = (sys.executable, "-IS", str(PROGRAM), str(shell.run_dir / FOLDER / door.name))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert (out == b"listening\n") == (process.returncode == 0)
    return process.returncode or 0


def holders(run_dir: Path) -> list[int]:
    """Return the process ids of the holders of a bench on this machine."""
    return [pid for pid, command in host_processes() if f"{PROGRAM} {run_dir}".encode() in command]


def host_processes() -> list[tuple[int, bytes]]:
    """Return id and command of each process that this machine sees."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            found.append((int(folder.name), command))
    return found


@asynccontextmanager
async def host_bench() -> AsyncGenerator[Bench]:
    """Give a bench on this machine; end its holder and its shells."""
    run_dir = Path(tempfile.mkdtemp(prefix="samovar-"))  # Short: sockets have 107 bytes.
    (run_dir / FOLDER).mkdir()
    bench = Bench(
        lines=HostLines(),
        run_dir=run_dir,
        inside=str(run_dir),
        home=str(run_dir),
        user=holder.who()[0],
    )
    try:
        yield bench
        await _clear(bench)
    finally:
        for pid, command in host_processes():  # The holder, and shells that a fault let live on.
            if str(run_dir).encode() in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(run_dir)


async def _clear(bench: Bench) -> None:
    for line in bench.opened:
        await line.hang_up()
        await line.close()


def docker_host() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


@asynccontextmanager
async def container_bench(folder: Path, *, has_python: bool) -> AsyncGenerator[Bench]:
    """Give a bench in a container of its own, with Python or without."""
    engine = Engine(docker_host())
    run_dir = folder / "run"
    (run_dir / FOLDER).mkdir(parents=True)
    os.chown(run_dir / FOLDER, UID, UID)
    config = {
        "Image": base_image(),
        "Cmd": ["sleep", "infinity"],
        "HostConfig": {"Init": True, "Binds": [f"{run_dir}:{INSIDE}"]},
    }
    try:
        container = await _create(engine, config)
        try:
            bench = await _prepared(engine, container, run_dir, has_python=has_python)
            yield bench
            for line in bench.opened:
                await line.close()
        finally:
            await engine.remove(container)
    finally:
        await engine.close()


async def _create(engine: Engine, config: dict[str, Any]) -> str:
    if await engine.image(config["Image"]) is None:
        lacking(str(config["Image"]))
    return await engine.create(config)


async def _prepared(engine: Engine, container: str, run_dir: Path, *, has_python: bool) -> Bench:
    script = "command -v python3" if has_python else 'rm -f "$(command -v python3)"; ! python3 -V'
    done = await engine.run(container, ["sh", "-c", script], user="0", folder="/")
    assert done.code == 0, done.complaint
    return Bench(
        lines=ContainerLines(engine),
        run_dir=run_dir,
        inside=INSIDE,
        home=f"/home/{USER}",
        user=USER,
        container=container,
        engine=engine,
    )


async def read_until(line: Line, word: bytes) -> bytes:
    """Read until `word` came; return all that was read."""
    seen = b""
    async with asyncio.timeout(60):
        while word not in seen:
            _, data = await line.read()
            assert data, f"ended after {seen!r}"
            seen += data
    return seen


async def read_rest(line: Line) -> bytes:
    """Read to the end."""
    pieces = []
    async with asyncio.timeout(60):
        while (data := (await line.read())[1]) != b"":
            pieces.append(data)
    return b"".join(pieces)
