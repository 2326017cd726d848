"""Stop a workspace and make a rescue copy of it."""

import logging
from dataclasses import replace

from agent import files, record
from agent.builder import Builder
from agent.docker import Engine
from agent.errors import NodeError
from agent.keep.capture import capture
from agent.record import Record
from agent.rescue import Rescue
from core.ids import WorkspaceId
from core.wire import Saved

log = logging.getLogger(__name__)

LEFT_OUT_MAX = 100
"""What the answer names of what is not in a copy."""


class Saver:
    """Saves the workspaces of a node."""

    def __init__(
        self, *, layout: files.Layout, rescue: Rescue, engine: Engine, builder: Builder
    ) -> None:
        self._layout = layout
        self._rescue = rescue
        self._engine = engine
        self._builder = builder

    async def save(self, found: Record) -> Saved:
        """Make a copy of a workspace; what runs in it is stopped.

        Raises:
            NodeError: See `agent.keep.capture`; then there is no copy.
        """
        is_still = await self._halt(found.id)
        site, home = await self._builder.site(found), self._layout.workspace(found.id)
        outside = await self._volumes(found.id) if is_still else ()
        copy = await capture(
            site, scratch=self._layout.scratch, target=self._layout.rescue, outside=outside
        )
        record.save(home, replace(found, copy=copy.sha256))
        if is_still:
            self._rescue.is_over(home)
        return Saved(
            sha256=copy.sha256,
            size_bytes=copy.size_bytes,
            branch=copy.branch,
            head=copy.head,
            base_commit=found.base_commit,
            left_out=copy.left[:LEFT_OUT_MAX],
            left_out_count=copy.left_count,
        )

    async def _volumes(self, workspace: WorkspaceId) -> tuple[str, ...]:
        names = (await self._engine.volumes(workspace)).values()
        return tuple(f"{name} is a volume, which stays on its machine." for name in names)

    async def _halt(self, workspace: WorkspaceId) -> bool:
        """Stop what runs in a workspace; say whether it is certain that nothing does any more.

        Without Docker a copy can still be made, and is not the last word.
        """
        try:
            for container in await self._engine.belonging(workspace):
                await self._engine.stop(container)
        except NodeError as error:
            extra = {"workspace": workspace, "reason": error.text}
            log.warning("workspace.not_stopped", extra=extra)
            return False
        return True
