"""The devcontainer CLI, the reference implementation of devcontainer.json, as a child process.

Its standard output ends with one JSON object, its standard error is a log of JSON lines
(devcontainer CLI 0.89, `--log-format json`).
"""

import hashlib
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import compose, disk
from agent.docker import Engine
from agent.errors import NodeError
from agent.process import Overdue, run
from agent.settings import Settings

READ_S = 300
UP_S = 15 * 60
HOOKS_S = 15 * 60
PROBE_S = 120
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BASICS = ("PWD", "OLDPWD", "SHLVL", "_")
"""Variables of the probing shell itself."""

Line = Callable[[str, str], Awaitable[None]]
"""Called with kind and text of each line of the CLI's log."""


class UpFailed(Exception):  # noqa: N818  an outcome that we recover from
    """The CLI could not do it; the text is its own reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A container as the CLI started it."""

    container: str
    user: str
    folder: str
    merged: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which configuration of which checkout the CLI works on.

    Attributes:
        checkout: The working tree.
        config: The repository's own file; None if it has none.
        override: The file that is read instead.
        labels: Labels that the container is found by.
        log: Where the CLI's log is kept.
        project: Name under which Compose keeps containers.
        container: Id of a container that was not found by its labels, or empty.
    """

    checkout: Path
    config: Path | None
    override: Path
    labels: Mapping[str, str]
    log: Path
    project: str
    container: str = ""

    def arguments(self) -> Sequence[str]:
        """Return what every command needs to know."""
        labels = [f"--id-label={name}={value}" for name, value in self.labels.items()]
        return (
            f"--workspace-folder={self.checkout}",
            *([f"--config={self.config}"] if self.config else []),
            f"--override-config={self.override}",
            "--mount-workspace-git-root=false",
            *([f"--container-id={self.container}"] if self.container else []),
            *labels,
        )


class Devcontainer:
    """Runs the CLI in an environment that knows nothing of this host.

    What Docker's own end does to it is never taken for a fault of the configuration: every call
    raises `NodeError` `docker_unreachable` then.
    """

    def __init__(self, settings: Settings, scratch: Path, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._scratch = scratch
        self._is_asked = False
        self._compose: Sequence[str] | None = None

    async def compose(self, target: Target, paths: Sequence[Path], *options: str) -> dict[str, Any]:
        """Return what Compose makes of the configuration's files, in one piece.

        Raises:
            NodeError: `compose_missing` or `compose_invalid`.
        """
        environment = self._environment(target)
        if not self._is_asked:
            self._compose = await compose.find(environment)
            self._is_asked = True
        if self._compose is None:
            raise NodeError(
                "compose_missing",
                "The devcontainer uses Docker Compose, which this node does not have; "
                "install the Compose plug-in of Docker on it.",
            )
        return dict(await compose.resolve(self._compose, paths, environment, *options))

    async def read(self, target: Target) -> Mapping[str, Any]:
        """Return the merged configuration: the file, features and the image's metadata."""
        words = ("read-configuration", target, "--include-merged-configuration")
        said = await self._run(*words, time_limit_s=READ_S)
        merged = said.get("mergedConfiguration")
        if not isinstance(merged, dict):
            raise UpFailed("the configuration could not be read")
        return merged

    async def up(self, target: Target, *, is_rebuild: bool, line: Line) -> Up:
        """Build and start, without lifecycle commands.

        Raises:
            UpFailed: With the CLI's reason.
        """
        said = await self._run(
            "up",
            target,
            "--skip-post-create",
            "--include-merged-configuration",
            "--remove-existing-container",
            f"--update-remote-user-uid-default={'never' if os.geteuid() == 0 else 'on'}",
            "--gpu-availability=none",
            *(["--build-no-cache"] if is_rebuild else []),
            time_limit_s=UP_S,
            line=line,
        )
        return Up(
            container=str(said["containerId"]),
            user=str(said["remoteUser"]),
            folder=str(said["remoteWorkspaceFolder"]),
            merged=said.get("mergedConfiguration") or {},
        )

    async def run_hooks(self, target: Target, *, line: Line) -> None:
        """Run the lifecycle commands that are due, as the remote user.

        Raises:
            UpFailed: When a command failed; the later ones did not run.
        """
        await self._run(
            "run-user-commands", target, "--skip-post-attach", time_limit_s=HOOKS_S, line=line
        )

    async def probe(self, target: Target) -> dict[str, str]:
        """Return the environment that the remote user has in a terminal.

        Raises:
            UpFailed: It cannot be read, or not in time: the profile of its shell hangs.
        """
        argv = ("exec", *target.arguments(), "sh", "-c", "env -0")
        async with self._engine.steady():
            try:
                done = await run(
                    [*self._command, *argv],
                    environment=self._environment(target),
                    time_limit_s=PROBE_S,
                )
            except Overdue as error:
                raise _too_long(PROBE_S) from error
            if done.code:
                raise UpFailed(done.complaint or "the environment could not be read")
        pairs = (item.partition("=") for item in done.out.decode(errors="replace").split("\0"))
        return {name: value for name, _, value in pairs if name and name not in BASICS}

    @property
    def _command(self) -> Sequence[str]:
        return (self._settings.node_js, self._settings.devcontainer_js)

    def _environment(self, target: Target) -> Mapping[str, str]:
        return {
            "COMPOSE_PROJECT_NAME": target.project,
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            "HOME": "/nonexistent",
            "TMPDIR": str(self._scratch),
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": self._settings.docker_host,
        }

    async def _run(
        self,
        verb: str,
        target: Target,
        *options: str,
        time_limit_s: float,
        line: Line | None = None,
    ) -> Mapping[str, Any]:
        argv = [*self._command, verb, *target.arguments(), *options, "--log-format=json"]
        target.log.parent.mkdir(parents=True, exist_ok=True)
        async with self._engine.steady():
            return await self._logged(verb, argv, target, time_limit_s, line)

    async def _logged(
        self,
        verb: str,
        argv: Sequence[str],
        target: Target,
        time_limit_s: float,
        line: Line | None,
    ) -> Mapping[str, Any]:
        with target.log.open("ab") as log:
            log.write(f"== devcontainer {verb}\n".encode())
            watch = _Log(log.write, line)
            try:
                done = await run(
                    argv,
                    environment=self._environment(target),
                    time_limit_s=time_limit_s,
                    watch=watch.feed,
                )
            except Overdue as error:
                log.write(f"stopped after {time_limit_s:.0f} s\n".encode())
                raise _too_long(time_limit_s) from error
            said = _last_object(done.out)
            if done.code or said.get("outcome", "success") != "success":
                reason = str(said.get("description") or said.get("message") or "")
                log.write(f"{reason}\n".encode())
                raise UpFailed(watch.reason(reason) or f"the CLI ended with code {done.code}")
            return said


def built_images(checkout: Path) -> str:
    """Return the pattern of the images that the CLI builds for a checkout (0.89)."""
    return f"vsc-*-{hashlib.sha256(str(checkout).encode()).hexdigest()}*"


def _too_long(limit_s: float) -> UpFailed:
    return UpFailed(f"it took longer than {limit_s / 60:.0f} minutes")


class _Log:
    """Turns the CLI's JSON lines into a text log, and remembers the last thing it ran."""

    def __init__(self, write: Callable[[bytes], object], line: Line | None) -> None:
        self._write = write
        self._line = line
        self._rest = b""
        self._last: list[str] = []

    async def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for raw in lines:
            try:
                entry = json.loads(raw)
            except ValueError:
                entry = {"type": "raw", "text": raw.decode(errors="replace")}
            await self._tell(entry)

    async def _tell(self, entry: Mapping[str, Any]) -> None:
        kind, text = str(entry.get("type")), str(entry.get("text") or entry.get("name") or "")
        text = ESCAPES.sub("", text).replace("\r", "").replace("\0", "").rstrip("\n")
        if kind in {"text", "raw", "start", "progress"} and text:
            self._write(f"{text}\n".encode())
            self._last = [*self._last, *text.splitlines()][-40:]
        if self._line:
            await self._line(kind, text)

    def reason(self, said: str) -> str:
        """Return the most telling clause for people."""
        told = [
            t for t in self._last if re.search(r"error|failed|not found|unknown|denied", t, re.I)
        ]
        told += [line for line in self._last if disk.is_full(line)]  # It is behind all the others.
        detail = told[-1].strip() if told else ""
        return " · ".join(part for part in (said.strip(), detail) if part)[:600]


def _last_object(out: bytes) -> dict[str, Any]:
    for raw in reversed(out.splitlines()):
        try:
            value = json.loads(raw)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}
