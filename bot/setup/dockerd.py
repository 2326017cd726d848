"""A Docker Engine of our own, under the state folder: found again by its socket."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bot.setup import bridge
from bot.setup.missing import MissingError
from bot.setup.requirement import Site
from bot.setup.shell import as_root, root_prefix, run, works

START_S = 60
STOP_S = 30
SOCKET_PATH_MAX = 107
"""Bytes of a unix socket's path, `sun_path` of unix(7) less its final zero."""
OWN_NAMESPACES = (
    "--containerd-namespace=samovar",
    "--containerd-plugins-namespace=samovar-plugins",
)
"""For where dockerd finds the system's containerd and shares it."""
MEND = "install Docker Engine and start it: https://docs.docker.com/engine/install/"


class Dockerd:
    """One private engine: data root, exec root, pid file, socket and bridge are its own.

    It is left running on purpose: the next start finds it by its socket in no time, and
    containers stay up when it is stopped (`live-restore`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "docker.sock"
        self._config = folder / "daemon.json"
        self._pid_file = folder / "docker.pid"
        self._log = folder / "dockerd.log"
        self._users = folder / "users"

    @property
    def host(self) -> str:
        """Its address, as `DOCKER_HOST` wants it."""
        return f"unix://{self._socket}"

    def is_running(self) -> bool:
        """Return whether it lives."""
        return self._pid() is not None

    def start(self, site: Site) -> None:
        """Start it and wait until it answers.

        Raises:
            MissingError: If it cannot be started, with the end of its log.
        """
        if len(str(self._socket)) > SOCKET_PATH_MAX:
            sentence = f"the path {self._socket} is too long for a socket"
            raise MissingError(sentence, mend="choose a shorter folder with SAMOVAR_STATE")
        program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            raise MissingError("dockerd is not installed", mend=MEND)
        self._folder.mkdir(parents=True, exist_ok=True)
        spawned = None
        if not self.is_running():
            site.progress("starting a Docker Engine of our own")
            self._forget_the_killed()
            self._write_config(site)
            words = (f"--config-file={self._config}", *OWN_NAMESPACES)
            spawned = self._spawn(as_root(program, *words, mend=MEND))
        self._wait_until_it_answers(spawned)

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Keep it from being stopped: programs that run at the same time share it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._users.open("a") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            yield

    def stop(self) -> None:
        """Stop it, by its own pid, and take its bridge away if nothing hangs on it.

        Where another program has it in use, nothing happens.
        """
        pid = self._pid()
        if pid is None:
            return
        with self._users.open("a") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._stop(pid)

    def _stop(self, pid: int) -> None:
        run([*(root_prefix() or ()), "kill", str(pid)], limit_s=10)
        deadline = time.monotonic() + STOP_S
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        bridge.remove_if_unused(json.loads(self._config.read_text())["bridge"])

    def _write_config(self, site: Site) -> None:
        network = bridge.provide(str(self._folder), site)
        settings = {
            "bridge": network.name,
            "data-root": str(self._folder / "data"),
            "default-address-pools": [{"base": str(network.pool), "size": 24}],
            "exec-root": str(self._folder / "exec"),
            "group": str(os.getegid()),
            "hosts": [self.host],
            "live-restore": True,
            "pidfile": str(self._pid_file),
        }
        self._config.write_text(json.dumps(settings, indent=2))

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_it_answers(self, spawned: subprocess.Popen[bytes] | None) -> None:
        deadline = time.monotonic() + START_S
        while not works(["docker", "-H", self.host, "version"], limit_s=5):
            is_starting = spawned is not None and spawned.poll() is None
            has_died = not is_starting and not self.is_running()
            if has_died or time.monotonic() > deadline:
                tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
                raise MissingError(f"our own Docker Engine does not start: {tail}", mend=MEND)
            time.sleep(0.1)

    def _forget_the_killed(self) -> None:
        """Remove the pid files of a killed engine and of its containerd, once both are gone.

        A new engine takes a zombie, or whoever has the number now, for its own containerd, waits
        for it in vain and gives up (libcontainerd: "containerd is still running").
        """
        folder = self._folder / "exec" / "containerd"  # Only root may look into it.
        deadline = time.monotonic() + STOP_S
        while _runs_with(str(folder / "containerd.toml")) and time.monotonic() < deadline:
            time.sleep(0.05)
        files = (str(self._pid_file), str(folder / "containerd.pid"))
        run(as_root("rm", "-f", *files, mend=MEND), limit_s=10)

    def _pid(self) -> int | None:
        """Return the engine's process id if that process is really it."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if f"--config-file={self._config}" in _words(Path(f"/proc/{pid}")) else None


def _runs_with(word: str) -> bool:
    """Return whether any process was started with `word` among its arguments."""
    return any(word in _words(process) for process in Path("/proc").glob("[0-9]*"))


def _words(process: Path) -> list[str]:
    """Return a process's arguments; a zombie has none."""
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
