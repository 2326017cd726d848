"""The head of a push in git's wire format, and the answer that refuses one (pure).

Source: gitprotocol-common(5) for pkt-lines, gitprotocol-pack(5) for "Reference Update Request" and
"Report Status". A push is: shallow lines and commands in any number, a flush, then whatever was
negotiated (push options, the pack). Only the part up to the flush is read here. Where the format
leaves room, this reader is stricter than git: what it does not understand is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

HEAD_BYTES_MAX = 1 << 20
"""Of everything before the first flush: thousands of commands."""
BAND_BYTES_MAX = 65_515
"""Data of one side-band-64k packet: 65520 less length and band (gitprotocol-capabilities(5))."""
FLUSH = b"0000"
_LENGTH = re.compile(rb"[0-9a-f]{4}")
_COMMAND = re.compile(
    rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^ \x00-\x1f\x7f]+)"
)
_SHALLOW = re.compile(rb"shallow ([0-9a-f]{40}|[0-9a-f]{64})")


class PktError(ValueError):
    """These bytes are not the head of a push. The message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One wish: let `ref` point to `new`, if it points to `old` now. All zeros mean nothing."""

    old: str
    new: str
    ref: str

    @property
    def is_delete(self) -> bool:
        """Whether the ref is to go."""
        return not self.new.strip("0")


@dataclass(slots=True)
class PushHead:
    """Reads the head of a push as its bytes come in.

    Attributes:
        seen: Every byte that was fed, to be sent on.
        commands: What is asked for so far.
        capabilities: What the client can do: `report-status`, `side-band-64k`, …
        is_whole: Whether the flush has come: nothing more is read.
    """

    seen: bytearray = field(default_factory=bytearray)
    commands: list[Command] = field(default_factory=list)
    capabilities: frozenset[str] = frozenset()
    is_whole: bool = False
    _at: int = 0

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            PktError: If this is no push, or its head is too long.
        """
        self.seen += data
        while not self.is_whole:
            line = self._next()
            if line is None:
                if len(self.seen) > HEAD_BYTES_MAX:
                    raise PktError("too many refs at once")
                return
            if line == b"":
                self.is_whole = True
            else:
                self._read(line)

    def _next(self) -> bytes | None:
        """Return the next line; nothing for a flush, None while it is not whole."""
        start = self._at + 4
        if len(self.seen) < start:
            return None
        length = bytes(self.seen[self._at : start])
        if not _LENGTH.fullmatch(length):
            raise PktError("a line has no length")
        if length == FLUSH:
            self._at = start
            return b""
        end = self._at + int(length, 16)
        if end <= start:
            raise PktError("a line is too short")
        if len(self.seen) < end:
            return None
        self._at = end
        return bytes(self.seen[start:end])

    def _read(self, line: bytes) -> None:
        text, nul, capabilities = line.removesuffix(b"\n").partition(b"\0")
        if _SHALLOW.fullmatch(text) and not nul:
            return
        command = _COMMAND.fullmatch(text)
        if command is None or (nul and self.commands):
            raise PktError("a line is no ref command")
        if nul:
            words = capabilities.decode(errors="replace").split()
            self.capabilities = frozenset(words)
        try:
            ref = command[3].decode()
        except UnicodeDecodeError as error:
            raise PktError("the name of a ref is not UTF-8") from error
        self.commands.append(Command(old=command[1].decode(), new=command[2].decode(), ref=ref))


def _line(data: bytes) -> bytes:
    """Return `data` as a pkt-line."""
    return b"%04x" % (len(data) + 4) + data


def refusal(head: PushHead, reasons: Mapping[str, str], *, remark: str) -> bytes | None:
    """Return the answer to a push of which nothing was done.

    Args:
        head: The push.
        reasons: Why each ref was refused, in one line.
        remark: Shown by git after `remote:`, where it can be.

    Returns:
        None if the client takes no report: then only an HTTP status can tell it.
    """
    if not {"report-status", "report-status-v2"} & head.capabilities:
        return None
    lines = [b"unpack ok\n"]
    lines += [b"ng %s %s\n" % (c.ref.encode(), reasons[c.ref].encode()) for c in head.commands]
    report = b"".join(map(_line, lines)) + FLUSH
    if "side-band-64k" not in head.capabilities:
        return report
    parts = [report[i : i + BAND_BYTES_MAX] for i in range(0, len(report), BAND_BYTES_MAX)]
    said = _line(b"\x02" + remark.encode() + b"\n")
    return said + b"".join(_line(b"\x01" + part) for part in parts) + FLUSH
