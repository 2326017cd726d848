"""Who has which conversation open: Claude Code writes a file for each of its processes."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from agent.claude.home import FOLDER
from agent.claude.protocol import decode, text
from agent.claude.typed import TERMINAL
from agent.driver import SessionSpec
from agent.mailbox import open_below
from core.wire import Json

SESSIONS = "sessions"
FILE_BYTES_MAX = 64 << 10
FILES_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A process that was started from a terminal.

    Attributes:
        name: Of the process; never used twice.
        pid: As it sees itself.
        began: When it began, as `Launcher.is_alive` takes it.
        session: The conversation that it has open now.
    """

    name: str
    pid: int
    began: str
    session: str


def others(spec: SessionSpec) -> list[Other]:
    """Return who says that they have a conversation open; the file of a killed one stays."""
    found = []
    for name, written in _files(spec).items():
        pid, began = written.get("pid"), text(written, "procStart")
        if written.get("entrypoint") == TERMINAL and isinstance(pid, int) and pid > 1:
            session = text(written, "sessionId")
            found.append(Other(name=f"{name}:{began}", pid=pid, began=began, session=session))
    return found


def _files(spec: SessionSpec) -> Mapping[str, Json]:
    try:
        folder = open_below(spec.run_dir, FOLDER, SESSIONS, flags=os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(one.name for one in entries if one.name.endswith(".json"))[:FILES_MAX]
    finally:
        os.close(folder)
    written = {}
    for name in names:
        with suppress(OSError):
            file = open_below(spec.run_dir, FOLDER, SESSIONS, name, flags=os.O_RDONLY)
            with os.fdopen(file, "rb") as opened:
                if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                    written[name] = decode(opened.read(FILE_BYTES_MAX)) or {}
    return written
