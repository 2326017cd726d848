"""Port `compute`: this computer. A node is a node agent with a state folder of its own."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from adapters.local import files, process
from core.errors import RefusedError, UnavailableError
from core.ids import NodeId
from core.ports.compute import Server
from core.project import Size
from core.secret import Secret

log = structlog.get_logger(__name__)

NODE_ID = re.compile(r"node-[0-9a-z]{1,32}")
LOOK_S = 1.0
BACK_OFF_S_MAX = 60.0
CALM_S = 60.0
TIDY_S = 3600.0


class LocalCompute:
    """Node agents as children of `samovar serve`; they outlive it and are found again.

    Args:
        state: Folder of all local nodes: one folder per node below it.
        url: Where the node agents find the control plane.
        command: The node agent; `run --state FOLDER` is added.
        settings: Written to `settings.json` of each node. When they or `url` differ from what a
            node agent was started with, it is restarted; what it drives goes on.
        installation: Whose nodes these are.
        env: The whole environment of the node agents.
        look_s: How often a supervisor looks whether its node agent lives.
    """

    def __init__(
        self,
        *,
        state: Path,
        url: str,
        command: Sequence[str],
        settings: Mapping[str, object],
        installation: str,
        env: Mapping[str, str],
        look_s: float = LOOK_S,
    ) -> None:
        self._state = state.absolute()
        self._command = command
        self._settings = {**settings, "url": url}
        self._url = url
        self._installation = installation
        self._env = {**env, "PYTHONSAFEPATH": "1"}
        self._look_s = look_s
        self._locks: dict[str, asyncio.Lock] = {}
        self._added = asyncio.Event()

    async def create(self, node_id: NodeId, *, size: Size, enrolment: Secret) -> Server:  # noqa: ARG002
        """See `Compute.create`. This computer is as large as it is, whatever the size."""
        if not NODE_ID.fullmatch(node_id):
            raise RefusedError("This computer", f"{node_id!r:.60} is not the name of a node")
        folder = self._state / node_id
        async with self._lock(node_id):
            try:
                files.write(folder / "server.json", self._labels(node_id))
                if not (folder / "node.json").exists():
                    files.write(
                        folder / "join.json", {"url": self._url, "token": enrolment.reveal()}
                    )
                await self._ensure(folder)
            except (OSError, TimeoutError) as error:
                raise UnavailableError("This computer", f"cannot start a node: {error}") from error
        self._added.set()
        return self._server(folder, node_id)

    async def destroy(self, ref: str) -> None:
        """See `Compute.destroy`. Rescue copies stay, in `kept`."""
        if not NODE_ID.fullmatch(ref):
            raise RefusedError("This computer", f"{ref!r:.60} is not the name of a node")
        async with self._lock(ref):
            if self._ours(self._state / ref) is None:
                return
            try:
                await process.end(self._state / ref)
                await asyncio.to_thread(files.remove, self._state / ref, keep=self._state / "kept")
            except OSError as error:
                raise UnavailableError("This computer", f"cannot remove: {error}") from error

    async def servers(self) -> Sequence[Server]:
        """See `Compute.servers`."""
        folders = sorted(self._state.glob("node-*"))
        found = [(folder, self._ours(folder)) for folder in folders]
        return [self._server(folder, NodeId(folder.name)) for folder, labels in found if labels]

    async def run(self) -> None:
        """Keep the node agents running until cancelled; they themselves go on afterwards."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tidy())
            watched: dict[str, asyncio.Task[None]] = {}
            while True:
                self._added.clear()
                for server in await self.servers():
                    if server.ref not in watched or watched[server.ref].done():
                        watched[server.ref] = group.create_task(self._watch(server.ref))
                await self._added.wait()

    async def _tidy(self) -> None:
        """Let kept copies of nodes that are gone go when their time is over."""
        while True:
            try:
                await asyncio.to_thread(files.expire, self._state / "kept", now=time.time())
            except OSError as error:
                log.warning("local.tidy_failed", reason=str(error))
            await asyncio.sleep(TIDY_S)

    async def _watch(self, ref: str) -> None:
        """Start the node agent again when it dies, less often when it dies at once."""
        folder, failures = self._state / ref, 0
        loop = asyncio.get_running_loop()
        alive_since = loop.time()
        while True:
            async with self._lock(ref):
                if self._ours(folder) is None:
                    return
                was_alive = process.find(folder) is not None
                try:
                    await self._ensure(folder)
                except (OSError, TimeoutError) as error:
                    log.warning("local.start_failed", node_id=ref, reason=str(error))
            if not was_alive:
                failures = 0 if loop.time() - alive_since > CALM_S else failures + 1
                alive_since = loop.time()
                log.warning("local.agent_started", node_id=ref, times=failures)
                await asyncio.sleep(min(BACK_OFF_S_MAX, self._look_s * 2**failures))
            else:
                await asyncio.sleep(self._look_s)

    async def _ensure(self, folder: Path) -> None:
        """Make sure that the node agent runs, with the settings of now."""
        settings = folder / "settings.json"
        if process.find(folder) is not None:
            if files.read(settings) == self._settings:
                return
            await process.end(folder)
        files.write(settings, self._settings)
        command = [*self._command, "run", "--state", str(folder)]
        await process.start(folder, command, self._env)

    def _server(self, folder: Path, node_id: NodeId) -> Server:
        return Server(
            ref=folder.name,
            node_id=node_id,
            is_running=process.find(folder) is not None,
            labels=self._labels(node_id),
        )

    def _labels(self, node_id: str) -> dict[str, str]:
        return {"samovar.installation": self._installation, "samovar.node": node_id}

    def _ours(self, folder: Path) -> dict[str, object] | None:
        """Return the labels of a folder that is a node of this installation."""
        labels = files.read(folder / "server.json")
        is_ours = labels is not None and labels == self._labels(folder.name)
        return labels if is_ours else None

    def _lock(self, ref: str) -> asyncio.Lock:
        return self._locks.setdefault(ref, asyncio.Lock())
