"""Run a program of this host in its own process group, with a deadline that progress renews."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OUTPUT_BYTES_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024

SECURE = "--securebits=+no_setuid_fixup"
"""Without it access(2) asks for an ordinary user without capabilities (measured)."""

Watch = Callable[[bytes], Awaitable[None]]
"""Called with each piece of standard error as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended. `code` is negative for a signal, as in `subprocess`."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last line break."""
        return self.out.decode(errors="replace").rstrip("\n")

    @property
    def complaint(self) -> str:
        """The end of standard error as text, for people."""
        return self.err.decode(errors="replace").strip()[-2000:]


class Overdue(Exception):  # noqa: N818  a fact about time, named as such
    """The program said nothing for too long, or took too long in all. It was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Numeric user and group a program runs as.

    Attributes:
        is_reader: May also read what its user may not: the state folder can lie below a folder
            that is closed to others, such as root's home.
    """

    uid: int
    gid: int
    is_reader: bool = False

    def prefix(self) -> Sequence[str]:
        """Return the arguments of setpriv(1) that change to it, nothing if it is ours already."""
        if self.uid == os.geteuid():
            return ()
        keep = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", SECURE)
        return (
            *(f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"),
            *(keep if self.is_reader else ()),
        )


async def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    time_limit_s: float,
    silence_limit_s: float | None = None,
    identity: Identity | None = None,
    stdin: bytes | None = None,
    keep_open: Sequence[int] = (),
    watch: Watch | None = None,
) -> Finished:
    """Run `argv` to its end and return what it wrote.

    Its whole process group is killed when this is cancelled or a limit is over, and the program
    itself when we are: nothing of an earlier life goes on beside the next one.

    Raises:
        Overdue: After `time_limit_s` in all, or `silence_limit_s` without any output.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig=KILL", *(identity.prefix() if identity else ()), "--", *argv),
        env=dict(environment),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        pass_fds=tuple(keep_open),
    )
    try:
        return await _attend(process, stdin, time_limit_s, silence_limit_s, watch)
    finally:
        _kill_group(process.pid)
        await asyncio.shield(process.wait())


async def _attend(
    process: asyncio.subprocess.Process,
    stdin: bytes | None,
    time_limit_s: float,
    silence_limit_s: float | None,
    watch: Watch | None,
) -> Finished:
    loop = asyncio.get_running_loop()
    end = loop.time() + time_limit_s
    out, err = bytearray(), bytearray()

    def next_deadline() -> float:
        return min(end, loop.time() + silence_limit_s) if silence_limit_s else end

    async def drain(stream: asyncio.StreamReader | None, to: bytearray, tell: Watch | None) -> None:
        assert stream is not None  # noqa: S101  asked for by PIPE
        while chunk := await stream.read(CHUNK_BYTES):
            deadline.reschedule(next_deadline())
            to += chunk
            del to[: max(0, len(to) - OUTPUT_BYTES_MAX)]
            if tell:
                await tell(chunk)

    try:
        async with asyncio.timeout_at(next_deadline()) as deadline, asyncio.TaskGroup() as tasks:
            tasks.create_task(drain(process.stdout, out, None))
            tasks.create_task(drain(process.stderr, err, watch))
            if stdin is not None:
                tasks.create_task(_feed(process.stdin, stdin))
            code = await process.wait()
    except TimeoutError as error:
        tail = err.decode(errors="replace")[-500:]
        raise Overdue(f"no end after {time_limit_s:.0f} s: {tail}") from error
    return Finished(code=code, out=bytes(out), err=bytes(err))


async def _feed(pipe: asyncio.StreamWriter | None, data: bytes) -> None:
    assert pipe is not None  # noqa: S101  asked for by PIPE
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.write(data)
        await pipe.drain()
    pipe.close()


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
