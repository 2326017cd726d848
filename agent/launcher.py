"""How the process of an agent session is started: in a container, or on this machine."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError

from agent.errors import NodeError
from core.ids import SessionId

INSIDE = "/run/samovar"
CALL_S_MAX = 60.0
STILL_LOOKS = 100
SWEEP = """
n=0
for p in /proc/[0-9]*; do
  if tr '\\0' '\\n' <"$p/environ" 2>/dev/null |
      grep -qx -e "SAMOVAR_SESSION=$1" -e "CLAUDE_CODE_SESSION_ID=$1"; then
    kill -KILL "${p#/proc/}" 2>/dev/null && n=$((n+1))
  fi
done
echo "$n"
"""
"""Root without CAP_SYS_PTRACE reads no other user's environment (proc(5)), so each user sweeps.

Ours is in the environment of the coding agent and what it starts; Claude Code gives its own to
its shells even where the environment is scrubbed (measured)."""


ALIVE = """
kill -0 "$1" || exit
[ "$2" ] || { echo yes; exit; }
set -- "$2" $(sed 's/.*) //' /proc/"$1"/stat)
[ "$1" != "${21}" ] || echo yes
"""
BEGAN = 19
"""Where a process began, among the fields of its state in /proc after its name."""
SIGNAL = """
kill -s "$1" "$2" || exit
[ "$1" = STOP ] || exit
for i in 1 2 3 4 5 6 7 8 9 10; do
  cut -d')' -f2- /proc/"$2"/task/*/stat | grep -qv '^ [TZX]' || exit
  sleep 0.01
done
"""


class ContainerLauncher:
    """Processes in a workspace's container, by `docker exec` that nobody stays attached to.

    Args:
        docker: The engine.
        container: Its id.
        user: Whose processes they are.
        wake: Starts the workspace's container; running already is fine.
    """

    def __init__(
        self,
        docker: aiodocker.Docker,
        container: str,
        *,
        user: str,
        wake: Callable[[], Awaitable[object]],
    ) -> None:
        self._container = docker.containers.container(container)
        self._user = user
        self._wake = wake

    @property
    def inside(self) -> str:
        """See `Launcher.inside`."""
        return INSIDE

    async def start(self, script: str, env: Mapping[str, str]) -> None:
        """See `Launcher.start`."""
        try:
            async with asyncio.timeout(CALL_S_MAX):
                run = await self._container.exec(
                    ["/bin/sh", "-c", script],
                    user=self._user,
                    environment=dict(env),
                    stdin=False,
                    stdout=False,
                    stderr=False,
                )
                await run.start(detach=True)
        except (DockerError, aiohttp.ClientError, OSError) as error:
            raise _node_error(error) from error

    async def is_alive(self, pid: int, *, began: str = "") -> bool:
        """See `Launcher.is_alive`."""
        try:
            return (await self._shell(ALIVE, str(pid), began)).strip() == "yes"
        except NodeError as error:
            if error.code in {"workspace_stopped", "workspace_gone"}:
                return False
            raise

    async def signal(self, pid: int, name: str) -> None:
        """See `Launcher.signal`."""
        await self._shell(SIGNAL, name, str(pid))

    async def wake(self) -> None:
        """See `Launcher.wake`."""
        await self._wake()

    async def sweep(self, session: SessionId) -> int:
        """See `Launcher.sweep`."""
        killed = 0
        for user in dict.fromkeys((self._user, "0")):
            count = (await self._shell(SWEEP, session, user=user)).strip() or "0"
            if not count.isdecimal():  # Docker's own words about a container that dies.
                raise NodeError("docker_failed", f"Docker failed on the node ({count:.200}).")
            killed += int(count)
        return killed

    async def _shell(self, script: str, *arguments: str, user: str = "0") -> str:
        """Run a script in the container, as root where nothing else is said."""
        out = b""
        try:
            async with asyncio.timeout(CALL_S_MAX):
                run = await self._container.exec(
                    ["/bin/sh", "-c", script, "sh", *arguments],
                    user=user,
                    stdin=False,
                    stdout=True,
                    stderr=False,
                )
                async with run.start(detach=False) as stream:
                    while (message := await stream.read_out()) is not None:
                        out += message.data
        except (DockerError, aiohttp.ClientError, OSError) as error:
            raise _node_error(error) from error
        return out.decode(errors="replace")


def _node_error(error: Exception) -> NodeError:
    status = error.status if isinstance(error, DockerError) else 0
    is_forgotten = "exec instance" in str(error)  # Docker started again and knows the container.
    if status == 404 and not is_forgotten:
        return NodeError(
            "workspace_gone", "The workspace's container is gone; reply to have it made again."
        )
    if status == 409:
        return NodeError(
            "workspace_stopped",
            "The workspace's container does not run; reply to have it started again.",
        )
    return NodeError(
        "docker_failed", f"Docker failed on the node ({error or type(error).__name__}); try again."
    )


class LocalLauncher:
    """Processes on this machine as the current user, for tests."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    @property
    def inside(self) -> str:
        """See `Launcher.inside`."""
        return str(self._run_dir)

    async def start(self, script: str, env: Mapping[str, str]) -> None:
        """See `Launcher.start`."""
        detached = '(setsid /bin/sh -c "$1" </dev/null >/dev/null 2>&1 &)'
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", detached, "sh", script, env=dict(env)
        )
        await process.wait()

    async def is_alive(self, pid: int, *, began: str = "") -> bool:
        """See `Launcher.is_alive`."""
        fields = _stat(pid)
        return bool(fields) and fields[0] != "Z" and began in {"", fields[BEGAN]}

    async def signal(self, pid: int, name: str) -> None:
        """See `Launcher.signal`."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.Signals[f"SIG{name}"])
        for _ in range(STILL_LOOKS if name == "STOP" else 0):
            if _stands_still(pid):
                return
            await asyncio.sleep(0.001)

    async def wake(self) -> None:
        """See `Launcher.wake`."""

    async def sweep(self, session: SessionId) -> int:
        """See `Launcher.sweep`."""
        names, killed = ("SAMOVAR_SESSION", "CLAUDE_CODE_SESSION_ID"), 0
        marks = {f"{name}={session}".encode() for name in names}
        for folder in _processes():
            with suppress(OSError):
                if marks & set((folder / "environ").read_bytes().split(b"\0")):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
        return killed


def _processes() -> list[Path]:
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _stat(pid: int, thread: str = "") -> list[str]:
    """Return what proc(5) says from the third field on, empty where there is no process."""
    below = f"task/{thread}/" if thread else ""
    try:
        text = Path(f"/proc/{pid}/{below}stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _stands_still(pid: int) -> bool:
    try:
        threads = [folder.name for folder in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return True
    return all(_stat(pid, thread)[:1] in ([], ["T"], ["Z"], ["X"]) for thread in threads)
