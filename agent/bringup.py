"""Bring the container of a checkout up.

Its own configuration first, else the last good image of the repository, else the default image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import compose, configuration, disk, files, policy
from agent.configuration import Configuration
from agent.devcontainer import Devcontainer, Target, Up, UpFailed
from agent.docker import Engine
from agent.errors import NodeError
from agent.override import (
    CLAUDE,
    CLAUDE_MUSL,
    GOOD,
    PIDS_MAX,
    Ours,
    from_image,
    labels,
    override,
)
from agent.process import Identity
from agent.progress import Progress
from core.wire import CreateWorkspace

KILLS_MAX = 3
"""How often a container may be killed from outside before that counts as its own failure."""
KILLED = 128 + 9
"""Exit code of what SIGKILL ended."""
LIBRARIES = """
for loader in /lib/ld-musl-*.so.1 /lib/ld-linux-*.so.* /lib64/ld-linux-*.so.*; do
  [ -e "$loader" ] || continue
  case $loader in *musl*) echo musl ;; *) echo glibc ;; esac
done
"""
"""Which C libraries an image has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One configuration to try.

    Attributes:
        name: How it is called in a sentence.
        raw: Its content.
        config: The repository's own file, None for ours.
    """

    name: str
    raw: Mapping[str, Any]
    config: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A container that is up, before its lifecycle commands.

    Attributes:
        recovered: Why it is not the repository's own one; empty if it is.
    """

    up: Up
    root: str
    target: Target
    owner: Identity
    claude: str
    recovered: str
    notes: tuple[str, ...]


class Bringup:
    """Brings the container of one workspace up."""

    def __init__(
        self,
        *,
        order: CreateWorkspace,
        home: Path,
        ours: Ours,
        good: Path,
        engine: Engine,
        cli: Devcontainer,
        progress: Progress,
    ) -> None:
        self._order = order
        self._home = home
        self._ours = ours
        self._good = good
        self._engine = engine
        self._cli = cli
        self._progress = progress

    @property
    def log(self) -> Path:
        """The log of this attempt."""
        return self._home / "logs" / f"build-{self._order.attempt}.log"

    @property
    def labels(self) -> Mapping[str, str]:
        """What this attempt's container is found by."""
        return labels(self._ours.owner, self._order)

    async def run(
        self, found: Configuration | None, *, is_rebuild: bool, has_work: bool
    ) -> Running:
        """Try one configuration after the other.

        Where there is work already, a refusal by the policy costs the configuration and not the
        workspace: whoever wrote it must be able to mend it there.

        Raises:
            NodeError: `policy_refused`, `compose_missing`, `disk_full`, or `image_failed` when not
                even the default image comes up.
        """
        failures: list[str] = []
        kills = 0
        tries = list(await self._tries(found, failures))
        while tries:
            try:
                return await self._try(tries[0], failures, is_rebuild=is_rebuild)
            except UpFailed as error:
                if disk.is_full(error):
                    raise disk.full(self._home) from error
                if kills < KILLS_MAX and await self.was_killed():
                    kills += 1
                else:
                    failures.append(f"{tries.pop(0).name} failed: {error}")
                await self.sweep()
            except NodeError as error:
                if not has_work or error.code != "policy_refused" or len(tries) == 1:
                    raise
                tries.pop(0)
                failures.append(error.text.rstrip("."))
                await self.sweep()
        raise NodeError(
            "image_failed",
            f"Not even the default image {self._order.image} came up, so the node needs its "
            f"operator: {failures[-1]}",
        )

    async def _tries(self, found: Configuration | None, failures: list[str]) -> Sequence[Try]:
        default = Try(name="the default image", raw=from_image(self._order.image))
        if found is None:
            return [default]
        tries = []
        if found.fault:
            failures.append(f"{found.path.name} cannot be read, {found.fault}")
        else:
            tries.append(Try(name="the devcontainer", raw=found.raw, config=found.path))
        good = files.read_json(self._good)
        # Asked for first: the CLI would look for one that is gone in a registry of strangers.
        if good and await self._engine.image(str(good.get("image"))):
            raw = from_image(str(good.get("image")), good.get("raw"))
            tries.append(Try(name="the last good image", raw=raw))
        return [*tries, default]

    async def _try(self, attempt: Try, failures: Sequence[str], *, is_rebuild: bool) -> Running:
        target, root, notes = await self._permit(attempt)
        up = await self._up(target, is_rebuild=is_rebuild and attempt.config is not None)
        mounted = await self._inspect(up, has_compose="dockerComposeFile" in attempt.raw)
        running = Running(
            up=up,
            root=root or mounted or up.folder,
            target=target,
            owner=await self._owner(up),
            claude=await self._claude(up),
            recovered=_recovered(failures, attempt),
            notes=notes,
        )
        if attempt.config and not failures:
            await self._keep(up, attempt)
        return running

    async def _permit(self, attempt: Try) -> tuple[Target, str, tuple[str, ...]]:
        """Check the configuration, write what the CLI reads instead, say where the checkout is."""
        target = Target(
            checkout=self._ours.checkout,
            config=attempt.config,
            override=self._home / f"override-{self._order.attempt}.json",
            labels=self.labels,
            log=self.log,
            project=compose.project(self._order.workspace),
        )
        async with self._progress.step("policy"):
            scene = self._scene(attempt.config)
            review = policy.review(attempt.raw, scene)
            raw = await self._compose(review.raw, target, scene)
            whole = override(raw, self._ours)
            files.write_json(target.override, whole)
            merged = await self._cli.read(target)
            policy.refuse(policy.added(merged, whole, scene))
        root = policy.mount_parts(whole.get("workspaceMount", "")).get("target", "")
        return target, root, tuple(finding.sentence for finding in review.stripped)

    async def _compose(
        self, raw: Mapping[str, Any], target: Target, scene: policy.Scene
    ) -> Mapping[str, Any]:
        """Replace Compose files by one that was resolved and judged: nothing is read twice."""
        if "dockerComposeFile" not in raw:
            return raw
        named = raw["dockerComposeFile"]
        names = [named] if isinstance(named, str) else named
        paths = [Path(scene.folder / name) for name in names]
        texts = [path.read_text(errors="replace") for path in paths if path.is_file()]
        policy.refuse(compose.written(texts, scene))
        before = await self._cli.compose(target, paths, *compose.UNREAD)
        policy.refuse(compose.unread(before, scene))
        config = await self._cli.compose(target, paths)
        policy.refuse(compose.findings(config, scene))
        judged = self._home / f"compose-{self._order.attempt}.json"
        files.write_json(judged, config)
        return {**raw, "dockerComposeFile": [str(judged)]}

    def _scene(self, config: Path | None) -> policy.Scene:
        checkout = self._ours.checkout
        return policy.Scene(
            checkout=checkout,
            folder=config.parent if config else checkout,
            allow=frozenset(self._order.allow),
            volumes=f"samovar-{self._order.workspace}-",
            labels=self.labels,
            is_inside=lambda path: configuration.is_inside(Path(path), checkout),
            is_closed=lambda path: configuration.is_closed(Path(path), checkout),
        )

    async def _up(self, target: Target, *, is_rebuild: bool) -> Up:
        step = "build"
        await self._progress.say(step, "started")

        async def line(kind: str, text: str) -> None:
            nonlocal step
            if kind == "start" and text == "Starting container" and step == "build":
                await self._progress.say("build", "done")
                step = "start"
                await self._progress.say("start", "started")
            elif step == "build" and text:
                await self._progress.more("build", text.splitlines()[-1][:200])

        try:
            up = await self._cli.up(target, is_rebuild=is_rebuild, line=line)
        except UpFailed as error:
            await self._progress.say(step, "failed", str(error))
            raise
        await self._progress.say(step, "done")
        return up

    async def _inspect(self, up: Up, *, has_compose: bool) -> str:
        """Compare what runs with what may; return where the checkout is mounted.

        This is the last word of the policy. A container of Compose gets its limits here.
        """
        seen = await self._engine.inspect(up.container)
        if seen is None:
            raise UpFailed("the container ended at once")
        if has_compose:
            cpus, memory_mb = self._ours.cpus, self._ours.memory_mb
            await self._engine.limit(up.container, cpus=cpus, memory_mb=memory_mb, pids=PIDS_MAX)
            others = list(await self._engine.belonging(self._order.workspace))
        else:
            await self.sweep(but=up.container)
            others = [up.container]
        binds = [mount.split("source=")[1].split(",")[0] for mount in self._ours.mounts()]
        try:
            for container in others:
                found = await self._engine.inspect(container)
                policy.refuse(policy.running(found or {}, binds=binds, scene=self._scene(None)))
        except NodeError:
            await self.sweep()
            raise
        checkout = str(self._ours.checkout)
        mounts = seen.get("Mounts") or ()
        return next((str(m["Destination"]) for m in mounts if m["Source"] == checkout), "")

    async def _owner(self, up: Up) -> Identity:
        said = await self._engine.run(
            up.container, ["sh", "-c", "id -u && id -g"], user=up.user, folder="/"
        )
        try:
            uid, gid = (int(line) for line in said.text.splitlines())
        except ValueError as error:
            raise UpFailed(f"the user {up.user!r} cannot start a shell") from error
        return Identity(uid=uid, gid=gid, is_reader=True)

    async def _claude(self, up: Up) -> str:
        """Return the path of the coding agent's binary that fits the image's C library.

        Raises:
            UpFailed: It has one that we have no binary for. An image with both has glibc.
        """
        argv = ["sh", "-c", LIBRARIES]
        said = await self._engine.run(up.container, argv, user="0", folder="/")
        libraries = said.text.split()
        if "musl" not in libraries or "glibc" in libraries:
            return CLAUDE
        if self._ours.claude_musl is None:
            raise UpFailed(
                "its image has musl (Alpine) and this node's Claude Code needs glibc; use an image "
                "with glibc, or give the node the other binary as SAMOVAR_CLAUDE_MUSL"
            )
        return CLAUDE_MUSL

    async def _keep(self, up: Up, attempt: Try) -> None:
        """Remember a good image by a tag, so that it is not lost when the next build fails."""
        seen = await self._engine.inspect(up.container)
        if seen is None:
            return
        name = f"{GOOD}/{self._good.stem}"
        await self._engine.tag(str(seen["Image"]), name)
        files.write_json(self._good, {"image": f"{name}:latest", "raw": attempt.raw})

    async def was_killed(self, *containers: str) -> bool:
        """Whether somebody killed a container: one of these, else any of this workspace.

        That is not its own failure. Services of Compose may end as they like.
        """
        for container in containers or await self._engine.belonging(self._order.workspace):
            state = (await self._engine.inspect(container) or {}).get("State", {})
            is_over = not state.get("Running") and not state.get("OOMKilled")
            if is_over and state.get("ExitCode") == KILLED:
                return True
        return False

    async def sweep(self, *, but: str = "") -> None:
        """Remove the containers of this and of earlier attempts, also late ones of a killed CLI."""
        for container in await self._engine.belonging(self._order.workspace):
            if container != but:
                await self._engine.remove(container)


def _recovered(failures: Sequence[str], attempt: Try) -> str:
    if not failures:
        return ""
    return f"{failures[0]}; {attempt.name} is used instead."
