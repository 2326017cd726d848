"""Run a project's checks in a fresh container, at a commit and nothing else.

Same image, user, environment and limits as the workspace; no tokens, no run directory, a clean
checkout. The lifecycle commands run first, because they are what installs things.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.checkout import Checkout, Start
from agent.devcontainer import Devcontainer, Target, UpFailed
from agent.docker import CommandOverdue, Engine
from agent.errors import NodeError
from agent.mirror import Heads
from agent.override import OWNER_LABEL, PIDS_MAX, WORKSPACE_LABEL
from agent.process import Identity
from agent.record import Record
from agent.trees import Trees, borrowed
from core.wire import CheckResult, RunChecks

CHECK_LABEL = "samovar.check"
TAIL_LINES, TAIL_BYTES = 60, 8 * 1024
SKIPPED = ("CLAUDE_CONFIG_DIR", "HOSTNAME")
"""Variables of the workspace's own container."""
LIFECYCLE = "lifecycle commands of the devcontainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a check needs from its workspace.

    Attributes:
        checkout: Where the clean tree is made.
        lenders: Bare repositories that hold the objects, mounted read-only.
        target: The workspace's configuration, for the lifecycle commands.
    """

    record: Record
    checkout: Checkout
    lenders: tuple[Path, ...]
    trees: Trees
    target: Target
    has_overlay: bool
    owner: str


class Checks:
    """Runs the checks of one order."""

    def __init__(self, engine: Engine, cli: Devcontainer, bench: Bench) -> None:
        self._engine = engine
        self._cli = cli
        self._bench = bench

    async def run(self, order: RunChecks) -> tuple[CheckResult, ...]:
        """Run all commands, one after the other, within the order's time limit in all."""
        image = await self._image()
        end = time.monotonic() + order.time_limit_s
        await self._sweep(order)
        try:
            await self._check_out(order)
            async with self._container(image, order) as container:
                results = await self._prepare(container, order, end)
                for command in order.commands:
                    results.append(await self._one(container, command, end))
                return tuple(results)
        finally:
            await self._bench.checkout.remove()

    async def _image(self) -> Mapping[str, Any]:
        seen = await self._engine.inspect(self._bench.record.container)
        if seen is None:
            raise NodeError(
                "workspace_gone", "The workspace's container is gone; restart the workspace."
            )
        return seen

    async def _check_out(self, order: RunChecks) -> None:
        record = self._bench.record
        await self._bench.checkout.make(
            self._bench.trees,
            Start(
                branch=record.order.branch,
                commit=order.commit,
                base=record.base,
                base_commit=record.base_commit,
            ),
            Identity(uid=record.uid, gid=record.gid, is_reader=True),
            heads=Heads(commits={record.base: record.base_commit}, tags={}),
            lenders=self._bench.lenders,
            settings={"core.repositoryformatversion": "0", "core.bare": "false"},
            has_overlay=self._bench.has_overlay,
        )

    @asynccontextmanager
    async def _container(self, seen: Mapping[str, Any], order: RunChecks) -> AsyncGenerator[str]:
        container = await self._engine.create(self._config(seen, order))
        try:
            yield container
        finally:
            await asyncio.shield(self._engine.remove(container))

    def _config(self, seen: Mapping[str, Any], order: RunChecks) -> Mapping[str, Any]:
        bench, record = self._bench, self._bench.record
        metadata = (seen["Config"].get("Labels") or {}).get("devcontainer.metadata", "[]")
        objects = [
            f"{lender / 'objects'}:{borrowed(n)}:ro" for n, lender in enumerate(bench.lenders)
        ]
        objects += [  # What a lender borrows itself is lent by another one of these.
            f"/dev/null:{borrowed(n)}/info/alternates:ro"
            for n, lender in enumerate(bench.lenders)
            if (lender / "objects/info/alternates").exists()
        ]
        return {
            "Image": seen["Image"],
            "Entrypoint": [
                "/bin/sh",
                "-c",
                "trap 'exit 0' TERM; while sleep 60 & wait $!; do :; done",
            ],
            "Cmd": [],
            "Env": [f"{name}={value}" for name, value in self._environment().items()],
            "Labels": {
                WORKSPACE_LABEL: record.id,
                CHECK_LABEL: order.run,
                OWNER_LABEL: bench.owner,
                "devcontainer.metadata": metadata,
            },
            "HostConfig": {
                "Binds": [f"{bench.checkout.target}:{record.root}", *objects],
                "Init": True,
                "NanoCpus": int(record.order.cpus * 1e9),
                "Memory": record.order.memory_mb << 20,
                "MemorySwap": record.order.memory_mb << 20,
                "PidsLimit": PIDS_MAX,
                "NetworkMode": seen["HostConfig"].get("NetworkMode", "default"),
            },
        }

    def _environment(self) -> Mapping[str, str]:
        kept = self._bench.record.env.items()
        return {name: value for name, value in kept if name not in SKIPPED}

    async def _prepare(self, container: str, order: RunChecks, end: float) -> list[CheckResult]:
        """Run the lifecycle commands; what goes wrong with them is a result of its own."""

        async def line(_: str, __: str) -> None:
            return None

        labels = {WORKSPACE_LABEL: self._bench.record.id, CHECK_LABEL: order.run}
        target = replace(self._bench.target, labels=labels, container=container)
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, end - started)):
                await self._cli.run_hooks(target, line=line)
        except (UpFailed, TimeoutError) as error:
            code = 1 if isinstance(error, UpFailed) else -1
            return [_result(LIFECYCLE, code, time.monotonic() - started, str(error))]
        return []

    async def _one(self, container: str, command: str, end: float) -> CheckResult:
        started = time.monotonic()
        tail = bytearray()

        def keep(data: bytes) -> None:
            tail.extend(data)
            del tail[: max(0, len(tail) - 4 * TAIL_BYTES)]

        record = self._bench.record
        try:
            done = await self._engine.run(
                container,
                ["sh", "-c", f"exec 2>&1\n{command}"],
                user=record.user,
                folder=record.folder,
                environment=self._environment(),
                time_limit_s=max(0.0, end - started),
                sink=keep,
            )
            code = done.code
        except CommandOverdue:
            code = -1
        took_s = time.monotonic() - started
        return _result(command, code, took_s, tail.decode(errors="replace"))

    async def _sweep(self, order: RunChecks) -> None:
        """Remove what a killed agent left of the same order."""
        labels = {WORKSPACE_LABEL: self._bench.record.id, CHECK_LABEL: order.run}
        for container in await self._engine.find(labels):
            await self._engine.remove(container)


def _result(command: str, code: int, took_s: float, text: str) -> CheckResult:
    lines = text.rstrip("\n").splitlines()[-TAIL_LINES:]
    tail = "\n".join(lines)[-TAIL_BYTES:]
    return CheckResult(command=command, exit_code=code, took_s=round(took_s, 3), tail=tail)
