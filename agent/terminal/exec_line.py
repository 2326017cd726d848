"""PTYs by `docker exec`, for containers that have no Python: they end with their node agent."""

import asyncio
from collections import deque
from contextlib import suppress

import aiohttp
from aiodocker.exceptions import DockerError
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from agent.docker import CommandOverdue, Engine
from agent.errors import NodeError
from agent.terminal.line import Shell
from core.viewing import Size

MARK = "SAMOVAR_TERMINAL"
"""In the environment of a shell and of what it starts: its terminal."""
START = """
rows=$1 columns=$2 folder=$3
shift 3
stty iutf8 2>/dev/null
case $(stty size 2>/dev/null) in # Somebody may have given it another size already.
  '' | '0 0') stty rows "$rows" cols "$columns" 2>/dev/null ;;
esac
SHELL=/bin/sh me=$(id -u)
while IFS=: read -r name _ uid _ _ home its; do
  [ "$uid" = "$me" ] || continue
  HOME=${HOME:-$home} USER=${USER:-$name} LOGNAME=${LOGNAME:-$name}
  case ${its##*/} in nologin | false | true) ;; *) [ -x "$its" ] && SHELL=$its ;; esac
  break
done </etc/passwd
[ "${LANG-}${LC_ALL-}${LC_CTYPE-}" ] || export LANG=C.UTF-8
export HOME USER LOGNAME SHELL
cd -- "$folder" 2>/dev/null || {
  cd -- "$HOME" 2>/dev/null || cd /
  echo "samovar: cannot enter $folder; this is $PWD."
}
[ $# = 0 ] && exec "$SHELL" -l
command -v -- "$1" >/dev/null 2>&1 || {
  echo "samovar: there is no command $1 here; install it or choose another."
  exit 127
}
exec "$@"
"""
END = """
marked() {
  for p in /proc/[0-9]*; do
    tr '\\0' '\\n' <"$p/environ" 2>/dev/null | grep -qx "$MARK" && echo "${p#/proc/}"
  done
}
MARK=$1
for p in $(marked); do kill -s HUP "$p"; kill -s CONT "$p"; done 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ "$(marked)" ] || exit 0
  sleep 0.2
done
for p in $(marked); do kill -s KILL "$p"; done 2>/dev/null
"""
END_S_MAX = 30.0
KEPT_BYTES = 1 << 20
CODE_LOOKS = 100
ENDED_BY = {129: -1, 137: -9}
"""What Docker says of a process that `END` ended."""


async def end_marked(engine: Engine, shell: Shell) -> None:
    """End the processes of a terminal, at first kindly; none is fine.

    Raises:
        NodeError: Docker cannot.
    """
    mark = f"{MARK}={shell.terminal}"
    with suppress(CommandOverdue):
        await engine.run(
            shell.container,
            ["/bin/sh", "-c", END, "sh", mark],
            user=shell.user,  # Root in a container may not read what others have for environment.
            folder="/",
            time_limit_s=END_S_MAX,
        )


class ExecLine:
    """A terminal that is a `docker exec`; see `Line`."""

    def __init__(self, engine: Engine, shell: Shell, execution: Exec, stream: Stream) -> None:
        self._engine = engine
        self._shell = shell
        self._execution = execution
        self._stream = stream
        self._at = 0
        self._is_over = False
        self._kept: deque[tuple[int, bytes]] = deque()
        self._reading = asyncio.Lock()
        self._typing = asyncio.Lock()

    @classmethod
    async def open(cls, engine: Engine, shell: Shell) -> "ExecLine":
        """Start a shell.

        Raises:
            NodeError: It cannot be started.
        """
        size = (str(shell.size.rows), str(shell.size.columns))
        more = {MARK: shell.terminal, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        execution, stream = await engine.attach(
            shell.container,
            ["/bin/sh", "-c", START, "sh", *size, shell.folder, *shell.command],
            user=shell.user,
            environment={**shell.env, **more},
        )
        return cls(engine, shell, execution, stream)

    async def read(self) -> tuple[int, bytes]:
        """See `Line`."""
        async with self._reading:
            if not self._kept:
                await self._receive()
            return self._kept.popleft() if self._kept else (self._at, b"")

    async def _receive(self) -> None:
        """Keep the next piece, or note the end. Only under the lock."""
        try:
            message = None if self._is_over else await self._stream.read_out()
        except (aiohttp.ClientError, OSError):
            message = None
        if message is None:
            self._is_over = True
        elif message.data:
            self._kept.append((self._at, message.data))
            self._at += len(message.data)

    async def _drain(self) -> None:
        """Take what nobody reads; of much the last part is kept."""
        while not self._is_over:
            async with self._reading:
                await self._receive()
                while self._kept and self._at - self._kept[0][0] > KEPT_BYTES:
                    self._kept.popleft()

    async def write(self, data: bytes) -> None:
        """See `Line`."""
        async with self._typing:
            with suppress(aiohttp.ClientError, OSError, RuntimeError, AssertionError):
                await self._stream.write_in(data)

    async def resize(self, size: Size) -> None:
        """See `Line`."""
        with suppress(DockerError, aiohttp.ClientError, OSError):
            await self._execution.resize(h=size.rows, w=size.columns)

    async def exit_code(self) -> int | None:
        """See `Line`."""
        with suppress(DockerError, aiohttp.ClientError, OSError):
            for _ in range(CODE_LOOKS):
                code = (await self._execution.inspect())["ExitCode"]
                if code is not None:
                    return ENDED_BY.get(code, int(code))
                await asyncio.sleep(0.02)
        return None

    async def hang_up(self) -> None:
        """See `Line`. Returns when the processes are gone."""
        async with asyncio.TaskGroup() as group:
            # Docker tells of no end in a container where output waits to be read (measured).
            draining = group.create_task(self._drain())
            with suppress(NodeError):
                await end_marked(self._engine, self._shell)
            draining.cancel()

    async def close(self) -> None:
        """See `Line`."""
        with suppress(aiohttp.ClientError, OSError, AssertionError):
            await self._stream.close()
