"""A terminal's output with its times and without secrets: an asciicast, version 2.

The format is that of docs.asciinema.org. A secret is hidden where it was written in one piece; one
that was typed with corrections, or broken over two lines by a program, is not found.
"""

import asyncio
import codecs
import errno
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from itertools import chain

from agent.errors import NodeError
from agent.masking import masked
from agent.place import Place
from agent.terminal.log import Kept, Mark
from agent.terminal.terminals import Terminals
from core.ids import TerminalId, WorkspaceId
from core.viewing import Size
from core.wire import OpenStream

BLOCK_BYTES = 64 * 1024
AROUND_BYTES = 16 * 1024
"""A secret that begins in one block is found whole if it ends within so much of the next."""
SECRET_NAMES = re.compile(
    r"token|secret|passw|passphrase|credential|authorization|cookie|key$|_pat$|_dsn$", re.IGNORECASE
)
SECRET_CHARACTERS_MIN = 6
"""A shorter value would be found in words that are no secret."""


async def recording(
    terminals: Terminals, known: Callable[[WorkspaceId], Place], wanted: OpenStream
) -> AsyncGenerator[bytes]:
    """Yield the recording of `{workspace}/{terminal}`: all that was kept when it was asked for.

    Args:
        terminals: Where it is.
        known: What is known of a workspace.
        wanted: Which one.

    Raises:
        NodeError: `no_terminal`.
        OSError: A part of it cannot be read; what was yielded is none.
    """
    workspace, _, terminal = wanted.name.partition("/")
    kept = terminals.kept(WorkspaceId(workspace), TerminalId(terminal))
    if kept is None:
        raise NodeError("no_terminal", f"There is no terminal {terminal:.40} on this node.")
    with kept.held_open() as held:
        lines = cast(held, _secrets(known, WorkspaceId(workspace)))
        while chunk := await asyncio.to_thread(_some, lines):
            yield chunk


def _secrets(known: Callable[[WorkspaceId], Place], workspace: WorkspaceId) -> Sequence[str]:
    """Return values of a workspace's environment that are nobody else's business."""
    try:
        place = known(workspace)
    except NodeError:
        return ()
    named = (value for name, value in place.env.items() if SECRET_NAMES.search(name))
    values = (value.strip() for value in (place.token, *named))
    return [value for value in values if len(value) >= SECRET_CHARACTERS_MIN]


def _some(lines: Iterator[str]) -> bytes:
    chunk = bytearray()
    for line in lines:
        chunk += line.encode("utf-8", "replace")
        if len(chunk) >= BLOCK_BYTES:
            break
    return bytes(chunk)


def cast(kept: Kept, secrets: Sequence[str]) -> Iterator[str]:
    """Yield the lines of an asciicast of what is kept.

    Raises:
        OSError: A part of it cannot be read.
    """
    size = next((mark.what for mark in kept.marks() if isinstance(mark.what, Size)), kept.size)
    began = next((mark.at for mark in kept.marks()), 0.0)
    head = {"version": 2, "width": size.columns, "height": size.rows, "timestamp": int(began)}
    yield json.dumps(head) + "\n"
    output, decode = _Masked(kept, secrets), codecs.getincrementaldecoder("utf-8")("replace")
    at, after_s = kept.start, 0.0
    for mark in chain(kept.marks(), [Mark(kept.end, began)]):
        while at < mark.offset:
            data = output.read(at, mark.offset)
            if not data:
                raise OSError(errno.EIO, "a part of the recording cannot be read")
            at += len(data)
            if text := decode.decode(data, final=at >= kept.end):
                yield json.dumps([round(after_s, 3), "o", text], ensure_ascii=False) + "\n"
        if mark.what is None:
            after_s = max(after_s, mark.at - began)
        elif isinstance(mark.what, Size) and mark.what != size:
            size = mark.what
            yield json.dumps([round(after_s, 3), "r", f"{size.columns}x{size.rows}"]) + "\n"


class _Masked:
    """Reads the output from its beginning on, block by block, secrets masked."""

    def __init__(self, kept: Kept, secrets: Sequence[str]) -> None:
        self._kept = kept
        forms = {form for each in secrets for form in (each, each.replace("\n", "\r\n"))}
        self._secrets = sorted((form.encode() for form in forms), key=len, reverse=True)
        self._block = b""
        self._first = kept.start

    def read(self, at: int, end: int) -> bytes:
        """Return bytes from `at` on, at least one and not past `end`; none if they are gone."""
        if at >= self._first + len(self._block):
            before = min(AROUND_BYTES, at - self._kept.start)
            wide = self._kept.read(at - before, before + BLOCK_BYTES + AROUND_BYTES)
            whole = masked(wide, self._secrets)
            self._block, self._first = whole[before : before + BLOCK_BYTES], at
        return self._block[at - self._first : end - self._first]
