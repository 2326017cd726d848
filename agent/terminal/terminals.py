"""The terminals of this node: opened once, found again after a restart, forgotten when closed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent import files
from agent.driver import Program
from agent.errors import NodeError
from agent.place import Place
from agent.shim import first_on_path
from agent.terminal.exec_line import MARK
from agent.terminal.line import Line, Lines, Shell
from agent.terminal.log import Kept, Log
from agent.terminal.terminal import UNKNOWN_END, End, Terminal
from core.ids import TerminalId, WorkspaceId
from core.viewing import CLOSE_AWAY, CLOSE_MISSING, Size, View, ViewError
from core.wire import (
    CloseTerminal,
    FrameError,
    OpenTerminal,
    Report,
    TerminalExited,
    from_json,
    to_json,
)

log = logging.getLogger(__name__)

PAINTS_MAX = 2
"""Screens that are drawn at the same time: each takes a thread some tenths of a second."""
ADOPT_WAIT_S = 2.0
SAVE_WAIT_S = 1.0
"""Between two tries to find a shell again while Docker is away."""
HANG_UP_S_MAX = 20.0
LAST_WORDS_S_MAX = 2.0
CLOSED = "This terminal was closed."


class Reports(Protocol):
    """What is kept until the control plane has it; `agent.spool.Spool`."""

    async def put_once(self, name: str, report: Report) -> None:
        """Keep a report, unless one was kept under this name."""
        ...

    async def forget(self, name: str) -> None:
        """Let a name be used again."""
        ...


@dataclass(slots=True)
class _Kept:
    """One terminal, as its `terminal.json` says, and what runs for it.

    Attributes:
        is_started: Whether its shell was started for sure; before that it may have been.
        program: What to start instead of a shell; not written down, as it holds a token.
        end: How it ended, once that is on the disk.
        task: Follows the shell, or looks for it.
        is_closing: Its end is of no interest any more.
    """

    folder: Path
    order: OpenTerminal
    is_started: bool = False
    program: Program | None = None
    end: End | None = None
    terminal: Terminal | None = None
    line: Line | None = None
    task: "asyncio.Task[None] | None" = None
    is_closing: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def save(self) -> None:
        """Write it down; nothing is made anew in a workspace that is gone."""
        if self.folder.is_dir():
            end = None if self.end is None else {"code": self.end.code, "text": self.end.text}
            kept = {"order": to_json(self.order), "is_started": self.is_started, "end": end}
            files.write_json(self.folder / "terminal.json", kept)

    @classmethod
    def load(cls, folder: Path) -> "_Kept | None":
        """Read it; None if there is none that can be read, or it is of another place.

        A workspace that was put back from a copy has the terminals of the one that was copied.
        """
        raw: dict[str, Any] = files.read_json(folder / "terminal.json") or {}
        try:
            order, end = from_json(OpenTerminal, raw.get("order")), raw["end"]
            known = None if end is None else End(end["code"], end["text"])
            if (order.workspace, order.terminal) != (folder.parent.parent.name, folder.name):
                return None
            return cls(folder, order, is_started=bool(raw["is_started"]), end=known)
        except (FrameError, KeyError, TypeError):
            return None


class Terminals:
    """All terminals of one state folder. `run` must be running.

    Args:
        lines: Opens shells and finds them again.
        place: Where processes of a workspace run.
        wake: Makes sure that the workspace's container runs.
    """

    def __init__(
        self,
        *,
        layout: files.Layout,
        lines: Lines,
        place: Callable[[WorkspaceId], Awaitable[Place]],
        wake: Callable[[WorkspaceId], Awaitable[None]],
        reports: Reports,
    ) -> None:
        self._layout = layout
        self._lines = lines
        self._place = place
        self._wake = wake
        self._reports = reports
        self._kept: dict[TerminalId, _Kept] = {}
        self._group: asyncio.TaskGroup | None = None
        self._paints = asyncio.Semaphore(PAINTS_MAX)
        self.has_adopted = asyncio.Event()

    async def run(self) -> None:
        """Adopt the terminals of an earlier life, then serve until cancelled.

        Cancelling lets go of the shells without touching them.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            for path in sorted(self._layout.workspaces.glob("*/terminals/*")):
                await self._take_in(path)
            self.has_adopted.set()
            await asyncio.Event().wait()

    async def take_in(self, workspace: WorkspaceId) -> None:
        """Know the terminals that came back with a workspace: they are over, and can be read."""
        for path in sorted(self._layout.workspace(workspace).glob("terminals/*")):
            if path.name not in self._kept:
                await self._take_in(path)

    async def _take_in(self, path: Path) -> None:
        kept = _Kept.load(path)
        if kept is None:
            await asyncio.to_thread(files.remove, path)
            return
        self._kept[kept.order.terminal] = kept
        if kept.end is not None or kept.is_started:
            kept.task = self._grouped().create_task(self._adopt(kept))

    async def open(self, order: OpenTerminal, program: Program | None = None) -> None:
        """Make sure that a terminal is there; one that has exited stays so.

        Args:
            order: Which one.
            program: What runs in it instead of a shell; not in the order, as it holds a token.

        Raises:
            NodeError: It cannot be opened.
        """
        folder = self._folder(order.workspace, order.terminal)
        kept = self._kept.setdefault(order.terminal, _Kept(folder, order))
        async with kept.lock:
            kept.program = program
            if kept.is_closing:
                raise NodeError("terminal_closed", CLOSED)
            if kept.is_started or kept.end is not None:
                return
            try:
                await self._start(kept)
            except NodeError as error:
                await self._drop(kept, error.text)
                raise

    async def close(self, order: CloseTerminal) -> None:
        """End what runs in a terminal and forget it; gone already is fine."""
        kept = self._kept.get(order.terminal)
        if kept is None:
            return
        kept.is_closing = True
        async with kept.lock:
            await self._hang_up(kept)
            if kept.line is not None:
                await kept.line.close()
            await self._drop(kept, CLOSED)

    async def close_all(self, workspace: WorkspaceId) -> None:
        """Close the terminals of a workspace."""
        async with asyncio.TaskGroup() as group:
            for terminal, kept in list(self._kept.items()):
                if kept.order.workspace == workspace:
                    order = CloseTerminal(workspace=workspace, terminal=terminal)
                    group.create_task(self.close(order))

    async def end_all(self, workspace: WorkspaceId) -> None:
        """End what runs in the terminals of a workspace; they stay, with what they wrote."""
        async with asyncio.TaskGroup() as group:
            for kept in list(self._kept.values()):
                if kept.order.workspace == workspace:
                    group.create_task(self._end(kept))

    async def view(
        self,
        view: View,
        *,
        workspace: WorkspaceId,
        terminal: TerminalId,
        viewer: str,
        writes: bool,
    ) -> None:
        """Serve a viewer of a terminal until one side ends it."""
        if not self.has_adopted.is_set():
            await view.close(CLOSE_AWAY, "The node is just starting.")
            return
        kept = self._kept.get(terminal)
        if kept is None or kept.order.workspace != workspace:
            await view.close(CLOSE_MISSING, f"The terminal {terminal} is not on this node."[:100])
            return
        await self._terminal(kept).view(view, name=viewer, writes=writes)

    def kept(self, workspace: WorkspaceId, terminal: TerminalId) -> Kept | None:
        """Return what a terminal wrote; None if there is no such terminal."""
        found = self._kept.get(terminal)
        if found is None or found.order.workspace != workspace:
            return None
        return self._terminal(found).output.kept()

    # One terminal's life

    async def _start(self, kept: _Kept) -> None:
        order = kept.order
        await self._wake(order.workspace)
        shell = await self._shell(kept)
        is_known = (kept.folder / "terminal.json").exists()
        kept.folder.mkdir(parents=True, exist_ok=True)
        kept.save()
        found = await self._lines.find(shell, after=0) if is_known else None
        kept.line = found or await self._lines.open(shell)
        kept.is_started = True
        self._follow_up(kept)
        await self._save(kept)

    def _follow_up(self, kept: _Kept) -> None:
        kept.task = self._grouped().create_task(self._follow(kept))

    def _grouped(self) -> asyncio.TaskGroup:
        if self._group is None:
            raise RuntimeError("Terminals.run is not running")
        return self._group

    async def _adopt(self, kept: _Kept) -> None:
        """Find the shell of an earlier life again, or say that it is gone."""
        if kept.end is None:
            try:
                kept.line = await self._find(kept)
            except Exception:  # Our own bug must not take the other terminals with it.
                log.exception("terminal.crashed", extra=_about(kept))
        await self._follow(kept)

    async def _find(self, kept: _Kept) -> Line | None:
        output = self._terminal(kept).output
        while True:
            try:
                return await self._lines.find(await self._shell(kept), after=output.end)
            except NodeError as error:
                if error.code != "docker_unreachable":
                    return None
            await asyncio.sleep(ADOPT_WAIT_S)

    async def _follow(self, kept: _Kept) -> None:
        """Serve a shell until it ends, and report its end."""
        if kept.end is None:
            try:
                kept.end = await self._drive(kept)
            except asyncio.CancelledError:
                if kept.line is not None:
                    await kept.line.close()
                raise
            await self._save(kept)
            log.info("terminal.exited", extra=_about(kept) | {"code": kept.end.code})
            if not kept.is_closing:  # Else viewers are told that it was closed.
                if kept.line is not None:
                    await kept.line.close()  # Forgets how it ended: only once that is written.
                self._terminal(kept).finish(kept.end)
        if not kept.is_closing:
            await self._reports.put_once(_name(kept), _exited(kept, kept.end))

    async def _save(self, kept: _Kept) -> None:
        """Write it down once the disk has room: a full one must end nothing but a wait."""
        is_told = False
        while True:
            try:
                kept.save()
            except OSError as error:
                if not is_told:
                    is_told = True
                    extra = _about(kept) | {"reason": str(error)}
                    log.error("terminal.not_saved", extra=extra)  # noqa: TRY400
                await asyncio.sleep(SAVE_WAIT_S)
            else:
                return

    async def _drive(self, kept: _Kept) -> End:
        if kept.line is None:
            return End(text=UNKNOWN_END)
        try:
            return await self._terminal(kept).drive(kept.line)
        except Exception:  # Our own bug must not take the other terminals with it.
            log.exception("terminal.crashed", extra=_about(kept))
            return End(text=UNKNOWN_END)

    async def _hang_up(self, kept: _Kept) -> None:
        """End a shell, whether it was found again, is looked for, or may have been started."""
        try:
            async with asyncio.timeout(HANG_UP_S_MAX):
                if kept.line is None and kept.end is None and kept.folder.is_dir():
                    kept.line = await self._lines.find(await self._shell(kept), after=0)
                if kept.line is not None and kept.end is None:
                    await kept.line.hang_up()
            if kept.task is not None:
                await asyncio.wait({kept.task}, timeout=LAST_WORDS_S_MAX)
        except (NodeError, OSError, TimeoutError) as error:
            log.warning("terminal.not_hung_up", extra=_about(kept) | {"reason": str(error)})

    async def _end(self, kept: _Kept) -> None:
        """End a shell; one that does not end is ended with its container."""
        async with kept.lock:
            if kept.end is None:
                await self._hang_up(kept)

    async def _drop(self, kept: _Kept, reason: str) -> None:
        """Forget a terminal and everything that it wrote."""
        if kept.task is not None:
            kept.task.cancel()
            await asyncio.wait({kept.task})
        if kept.terminal is not None:
            kept.terminal.close(reason)
        await asyncio.to_thread(files.remove, kept.folder)
        await self._reports.forget(_name(kept))
        self._kept.pop(kept.order.terminal, None)

    def _terminal(self, kept: _Kept) -> Terminal:
        """Return the terminal with its viewers; one that is long over is read when asked for."""
        if kept.terminal is None:
            output = Log(kept.folder)
            if output.end == 0:
                with suppress(ViewError):
                    output.resize(Size(kept.order.columns, kept.order.rows))
            kept.terminal = Terminal(output, paints=self._paints, end=kept.end)
        return kept.terminal

    async def _shell(self, kept: _Kept) -> Shell:
        order = kept.order
        place = await self._place(order.workspace)
        program = kept.program or Program(command=order.command, env={})
        return Shell(
            terminal=order.terminal,
            container=place.container,
            user=place.user,
            folder=place.folder,
            env=first_on_path({**place.env, **program.env, MARK: order.terminal}),
            run_dir=place.run_dir,
            size=self._terminal(kept).output.size,
            command=program.command,
        )

    def _folder(self, workspace: WorkspaceId, terminal: TerminalId) -> Path:
        try:
            return self._layout.workspace(workspace) / "terminals" / files.plain(terminal)
        except ValueError as error:
            raise NodeError("terminal_failed", f"{error}.") from error


def _name(kept: _Kept) -> str:
    return f"exited:{kept.order.terminal}"


def _about(kept: _Kept) -> dict[str, object]:
    return {"terminal": kept.order.terminal, "workspace": kept.order.workspace}


def _exited(kept: _Kept, end: End) -> TerminalExited:
    return TerminalExited(
        workspace=kept.order.workspace,
        terminal=kept.order.terminal,
        code=end.code or 0,
        text=end.text,
    )
