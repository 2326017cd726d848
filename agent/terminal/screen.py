"""A terminal's screen on the node: what a viewer is shown who cannot go on from the log.

`pyte` keeps the cells and moves the cursor. What it does not know is done here: the alternate
screen, xterm's larger set of sequences, faint text, colours as they were written, scrollback.
"""

import codecs
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import pyte
import wcwidth
from pyte import modes as mo
from pyte.charsets import VT100_MAP

from agent.terminal.log import Kept
from agent.terminal.modes import ALTERNATE, USUAL, Modes
from core.viewing import FRAME_BYTES_MAX, Size

SCROLLBACK_ROWS = 1000
TAIL_BYTES = 256 * 1024
"""How far back the screen is drawn again, at least while the log has it; on the alternate screen
from where it was entered, if that is within four times as much."""
CLUSTER_CHARACTERS_MAX = 16
"""Of one cell: a character and what combines with it."""
UNFINISHED_BYTES_MAX = 256 * 1024

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+)"
    r"|\x1b\[(?P<numbers>[0-?]*)(?P<between>[ -/]*)(?P<end>[@-~])"
    r"|\x1b[\]PX^_][^\x07\x1b\x18\x1a]*(?:\x07|\x1b\\|(?=\x1b[^\\])|(?=[\x18\x1a]))"
    r"|\x1b(?P<middle>[ -/]+)(?P<last>[0-~])"
    r"|\x1b(?P<single>[0-OQ-WYZ\\`-~])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|\x1b(?:\[[0-?]*[ -/]*|[ -/]*)(?=[^ -~])"
)
_COLOURS = {*range(30, 38), *range(40, 48), *range(90, 98), *range(100, 108)}
_FLAGS_OFF = {22: {"1", "2"}, 23: {"3"}, 24: {"4"}, 25: {"5"}, 27: {"7"}, 28: {"8"}, 29: {"9"}}


class Cell(NamedTuple):
    """One cell: its text, empty for the right half of a wide character, and SGR parameters."""

    data: str = " "
    fg: str = ""
    bg: str = ""
    flags: str = ""


BLANK = Cell()
Row = list[Cell]


class Saved(NamedTuple):
    """What DECSC saves."""

    x: int
    y: int
    pen: Cell


@dataclass(frozen=True, slots=True)
class Piece:
    """Output while the terminal had one size.

    Attributes:
        modes: Those at its beginning where nothing before it was drawn.
    """

    size: Size
    data: bytes
    modes: Modes | None = None


class Grid(pyte.Screen):
    """The cells of both screens. `feed` is given what the shell wrote."""

    buffer: Any
    cursor: Any

    def __init__(self, size: Size) -> None:
        self._left: deque[Any] = deque(maxlen=SCROLLBACK_ROWS)
        self.usual: tuple[Any, Saved | None] | None = None
        """The usual screen and its saved cursor, while the alternate one is shown."""
        self.saved: Saved | None = None
        self.shown = 0
        self._charsets = ["B", "B"]
        self._is_shifted = False
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self.waiting = b""
        """What was fed last and means nothing without its rest."""
        self._last = ""
        """What REP repeats; empty for nothing."""
        super().__init__(size.columns, size.rows)

    @property
    def default_char(self) -> Any:
        """What was never written to."""
        return BLANK

    def feed(self, data: bytes) -> None:
        """Draw."""
        text = self._rest + self._decode.decode(data)
        at = 0
        while found := _TOKEN.match(text, at):
            at = found.end()
            if (drawn := found["text"]) is not None:
                self.draw(drawn)
                continue
            if (end := found["end"]) is not None:
                self._csi(found["numbers"], found["between"], end)
            elif (control := found["control"]) is not None:
                self._control(control)
            elif (single := found["single"]) is not None:
                self._escape(single)
            elif found["middle"] is not None:
                self._escape_more(found["middle"], found["last"])
            if found["control"] != "\x7f":  # Only what was drawn just before is repeated.
                self._last = ""
        self._rest = text[at:]
        self.waiting = self._unfinished(self.waiting + data)

    def begin_with(self, modes: Modes) -> None:
        """Be in the modes that matter for drawing."""
        self.set_margins(*modes.margins)
        for number in (6, 7):
            self._private(number, is_on=number in modes.private)
        self._ansi(4, is_on=modes.is_inserting)
        self._ansi(20, is_on=modes.is_newline)
        self._charsets, self._is_shifted = list(modes.charsets), modes.is_shifted
        if modes.alternate:
            self._alternate(modes.alternate, is_on=True)
        self.cursor_position()

    def row(self, y: int) -> Row:
        """Return a row of the screen; halves of wide characters are blanks."""
        return _whole(self.buffer[y], self.columns)

    @property
    def history(self) -> list[Row]:
        """The rows that left the usual screen at its top, oldest first."""
        return [_whole(row, max(row, default=0) + 1) for row in self._left]

    def usual_rows(self) -> list[Row]:
        """Return the rows of the usual screen, which may be hidden."""
        buffer = self.usual[0] if self.usual else self.buffer
        return [_whole(buffer[y], self.columns) for y in range(self.lines)]

    # What pyte does otherwise

    def reset(self) -> None:
        """Be as new; the scrollback stays."""
        super().reset()
        self.cursor.attrs = BLANK
        self.usual = self.saved = None
        self.shown = 0
        self._charsets, self._is_shifted = ["B", "B"], False

    def draw(self, data: str) -> None:
        """Write text at the cursor."""
        if self._charsets[self._is_shifted] == "0":
            data = data.translate(VT100_MAP)
        pen, cursor = self.cursor.attrs, self.cursor
        cells: dict[str, Cell] = {}
        does_wrap, does_insert = mo.DECAWM in self.mode, mo.IRM in self.mode
        columns = self.columns
        line = self.buffer[cursor.y]
        for char in data:
            width = 1 if " " <= char < "\x7f" else _width(char)
            if width == 0:
                self._combine(char)
                self._last += char if 0 < len(self._last) < CLUSTER_CHARACTERS_MAX else ""
            if width <= 0 or width > columns:
                continue
            if cursor.x + width > columns:
                if does_wrap:
                    self.carriage_return()
                    self.linefeed()
                    line = self.buffer[cursor.y]
                elif width == 1 or cursor.x == columns:
                    cursor.x = columns - width
                else:
                    continue
            if does_insert:
                self.insert_characters(width)
            cell = cells.get(char)
            if cell is None:
                cell = cells[char] = pen._replace(data=char)
            line[cursor.x] = cell
            if width == 2:
                line[cursor.x + 1] = pen._replace(data="")
            cursor.x += width
            self._last = char

    def index(self) -> None:
        """Go down one row; what leaves the usual screen at its top is kept."""
        top, bottom = self.margins or (0, self.lines - 1)
        if self.cursor.y == bottom:
            if top == 0 and self.usual is None:
                self._left.append(self.buffer[0])
            buffer = self.buffer
            for y in range(top, bottom):
                buffer[y] = buffer[y + 1]
            buffer.pop(bottom, None)
        elif self.cursor.y < self.lines - 1:
            self.cursor.y += 1

    def insert_characters(self, count: int | None = None) -> None:
        """Move what is right of the cursor to the right."""
        if self.cursor.x < self.columns:
            super().insert_characters(count)
            self.buffer[self.cursor.y].pop(self.columns, None)

    def erase_characters(self, count: int | None = None) -> None:
        """Blank some cells from the cursor on."""
        self._erase(self.cursor.y, self.cursor.x, self.cursor.x + (count or 1))

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:  # noqa: ARG002
        """Blank the rest of a row, its beginning, or all of it."""
        y, x = self.cursor.y, self.cursor.x
        first, last = ((x, self.columns), (0, x + 1), (0, self.columns))[how]
        self._erase(y, first, last)

    def erase_in_display(self, how: int = 0, *_: Any, **__: Any) -> None:
        """Blank what is below, what is above, all, or the scrollback."""
        if how == 3:
            self._left.clear()
            return
        y = self.cursor.y
        for each in (range(y + 1, self.lines), range(y), range(self.lines))[how]:
            self._erase(each, 0, self.columns)
        if how < 2:
            self.erase_in_line(how)

    def save_cursor(self) -> None:
        """Remember place and pen."""
        self.saved = Saved(min(self.cursor.x, self.columns - 1), self.cursor.y, self.cursor.attrs)

    def restore_cursor(self) -> None:
        """Go back to what was remembered."""
        saved = self.saved or Saved(0, 0, BLANK)
        self.cursor.x, self.cursor.y, self.cursor.attrs = saved
        self.ensure_hbounds()
        self.cursor.y = min(self.cursor.y, self.lines - 1)

    def cursor_to_line(self, line: int | None = None) -> None:
        """Go to a row."""
        column = self.cursor.x + 1
        self.cursor_position(line, column)

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Have another size. Rows that do not fit leave at the top, from above the cursor."""
        lines, columns = lines or self.lines, columns or self.columns
        if (lines, columns) == (self.lines, self.columns):
            return
        self.margins = None
        for buffer, is_usual in self._buffers():
            leave = max(0, min(self.cursor.y + 1, self.lines) - lines)
            if is_usual:
                self._left.extend(buffer[y] for y in range(leave))
            kept = {y - leave: row for y, row in buffer.items() if leave <= y < leave + lines}
            buffer.clear()
            buffer.update(kept)
            for row in buffer.values():
                for x in [x for x in row if x >= columns]:
                    del row[x]
        self.cursor.y = max(0, self.cursor.y - max(0, min(self.cursor.y + 1, self.lines) - lines))
        self.tabstops |= set(range((self.columns + 7) // 8 * 8, columns, 8))
        self.lines, self.columns = lines, columns
        self.ensure_hbounds()
        self.ensure_vbounds()

    def _buffers(self) -> Iterable[tuple[Any, bool]]:
        yield self.buffer, self.usual is None
        if self.usual:
            yield self.usual[0], True

    def _erase(self, y: int, first: int, last: int) -> None:
        row, blank = self.buffer[y], Cell(bg=self.cursor.attrs.bg)
        for x in range(first, min(last, self.columns)):
            if blank == BLANK:
                row.pop(x, None)
            else:
                row[x] = blank

    def _combine(self, char: str) -> None:
        row, x = self.buffer[self.cursor.y], self.cursor.x - 1
        if x > 0 and row[x].data == "":
            x -= 1
        if x >= 0 and 0 < len(row[x].data) < CLUSTER_CHARACTERS_MAX:
            row[x] = row[x]._replace(data=row[x].data + char)

    def _unfinished(self, data: bytes) -> bytes:
        at = len(data) - len(self._decode.getstate()[0])
        if self._rest:
            at = len(data)
            for _ in range(self._rest.count("\x1b")):
                at = data.rfind(b"\x1b", 0, at)
        return data[at:]

    # Sequences

    def _control(self, char: str) -> None:
        match char:
            case "\n" | "\x0b" | "\x0c":
                self.linefeed()
            case "\r":
                self.carriage_return()
            case "\b":
                self.backspace()
            case "\t":
                self.tab()
            case "\x0e" | "\x0f":
                self._is_shifted = char == "\x0e"

    def _escape(self, char: str) -> None:
        match char:
            case "c":
                self.reset()
            case "D":
                self.index()
            case "E":
                self.carriage_return()
                self.index()
            case "M":
                self.reverse_index()
            case "H":
                self.set_tab_stop()
            case "7":
                self.save_cursor()
            case "8":
                self.restore_cursor()

    def _escape_more(self, middle: str, last: str) -> None:
        if middle in {"(", ")"}:
            self._charsets[middle == ")"] = last
        elif middle == "#" and last == "8":
            self.alignment_display()

    def _csi(self, text: str, between: str, end: str) -> None:
        mark = text[:1] if text[:1] in {"?", ">", "=", "<"} else ""
        if end == "m" and not mark and not between:
            self._pen(text)
            return
        given = [int(each) if each.isdigit() else 0 for each in text[len(mark) :][:64].split(";")]
        numbers = [min(each, 9999) for each in given]
        if between or mark:
            self._csi_marked(mark + between + end, numbers)
        else:
            self._csi_plain(end, numbers)

    def _csi_marked(self, what: str, numbers: Sequence[int]) -> None:
        if what in {"?h", "?l"}:
            for number in numbers:
                self._private(number, is_on=what == "?h")
        elif what == "!p":
            self.margins = None
            self.mode = {mo.DECAWM, mo.DECTCEM} | self.mode & {mo.LNM}
            self.cursor.attrs, self.saved = BLANK, None
            self._charsets, self._is_shifted = ["B", "B"], False
        elif what in {"?J", "?K"} and numbers[0] < 3:
            (self.erase_in_display if what == "?J" else self.erase_in_line)(numbers[0])

    def _csi_plain(self, end: str, numbers: Sequence[int]) -> None:
        first = numbers[0]
        if (move := _MOVES.get(end)) is not None:
            getattr(self, move)(first)
        elif end in "JK":
            if first < (4 if end == "J" else 3):
                (self.erase_in_display if end == "J" else self.erase_in_line)(first)
        elif end in "Hf":
            self.cursor_position(*numbers[:2])
        elif end in "hl":
            for number in numbers:
                self._ansi(number, is_on=end == "h")
        elif end in "ST" and len(numbers) == 1:
            self._scroll(min(first or 1, self.lines), is_up=end == "S")
        else:
            self._csi_rare(end, numbers)

    def _csi_rare(self, end: str, numbers: Sequence[int]) -> None:
        count = min(numbers[0] or 1, self.columns * self.lines)
        match end:
            case "r":
                self._margins(*(*numbers, 0)[:2])
            case "b":
                self.draw(self._last * count)
            case "Z":
                for _ in range(min(count, self.columns)):
                    before = [stop for stop in self.tabstops if stop < self.cursor.x]
                    self.cursor.x = max(before, default=0)
            case "s":
                self.save_cursor()
            case "u":
                self.restore_cursor()

    def _margins(self, top: int, bottom: int) -> None:
        bottom = min(bottom or self.lines, self.lines)
        if (top or 1) < bottom:
            is_all = (top or 1) == 1 and bottom == self.lines
            self.margins = None if is_all else pyte.screens.Margins((top or 1) - 1, bottom - 1)
            self.cursor_position()

    def set_margins(self, top: int | None = None, bottom: int | None = None) -> None:
        """Set the rows that scroll, from 1; 0 for the first and the last."""
        self._margins(top or 0, bottom or 0)

    def _scroll(self, count: int, *, is_up: bool) -> None:
        x, y = self.cursor.x, self.cursor.y
        top, bottom = self.margins or (0, self.lines - 1)
        self.cursor.y = bottom if is_up else top
        for _ in range(count):
            (self.index if is_up else self.reverse_index)()
        self.cursor.x, self.cursor.y = x, y

    def _ansi(self, number: int, *, is_on: bool) -> None:
        if number in {mo.IRM, mo.LNM}:
            (self.mode.add if is_on else self.mode.discard)(number)

    def _private(self, number: int, *, is_on: bool) -> None:
        if number in ALTERNATE:
            self._alternate(number, is_on=is_on)
        elif number == 1048:
            (self.save_cursor if is_on else self.restore_cursor)()
        elif number in {6, 7}:
            (self.mode.add if is_on else self.mode.discard)(number << 5)
            if number == 6:
                self.cursor_position()

    def _alternate(self, number: int, *, is_on: bool) -> None:
        if is_on and self.usual is None:
            if number == 1049:
                self.save_cursor()
            self.usual = (self.buffer, self.saved)
            self.shown, self.saved = number, None
            self.buffer = type(self.buffer)(self.buffer.default_factory)
        elif not is_on and self.usual is not None:
            self.buffer, self.saved = self.usual
            self.usual, self.shown = None, 0
            if number == 1049:
                self.restore_cursor()

    def _pen(self, text: str) -> None:
        """Change how text looks from here on (SGR)."""
        pen = self.cursor.attrs
        flags = set(filter(None, pen.flags.split(";")))
        fg, bg = pen.fg, pen.bg
        numbers = deque(_sgr(text))
        while numbers:
            number = numbers.popleft()
            if number == 0:
                fg, bg, flags = "", "", set()
            elif number in {38, 48, 58}:
                colour = _colour(number, numbers)
                fg, bg = (
                    (colour or fg if number == 38 else fg),
                    (colour or bg if number == 48 else bg),
                )
            elif number in {39, 49}:
                fg, bg = ("" if number == 39 else fg), ("" if number == 49 else bg)
            elif number in _COLOURS:
                is_fg = number % 50 >= 30 and number % 50 < 40 if number < 50 else number < 100
                fg, bg = (str(number), bg) if is_fg else (fg, str(number))
            elif 1 <= number <= 9 and number != 6:
                flags.add(str(number))
            else:
                flags -= _FLAGS_OFF.get(number, set())
        self.cursor.attrs = Cell(" ", fg, bg, ";".join(sorted(flags)))


_MOVES = {
    "@": "insert_characters",
    "A": "cursor_up",
    "B": "cursor_down",
    "C": "cursor_forward",
    "D": "cursor_back",
    "E": "cursor_down1",
    "F": "cursor_up1",
    "G": "cursor_to_column",
    "L": "insert_lines",
    "M": "delete_lines",
    "P": "delete_characters",
    "X": "erase_characters",
    "`": "cursor_to_column",
    "a": "cursor_forward",
    "d": "cursor_to_line",
    "e": "cursor_down",
    "g": "clear_tab_stop",
}


@lru_cache(maxsize=8192)
def _width(char: str) -> int:
    return wcwidth.wcwidth(char)


def _sgr(text: str) -> list[int]:
    """Return the numbers of an SGR sequence, sub-parameters written as parameters."""
    numbers: list[int] = []
    for part in text[:256].split(";"):
        given = [min(int(each), 9999) if each.isdigit() else 0 for each in part.split(":")]
        if len(given) == 1:
            numbers += given
        elif given[0] in {38, 48} and given[1:2] == [2] and len(given) >= 5:
            numbers += [given[0], 2, *given[-3:]]
        elif given[0] in {38, 48} and given[1:2] == [5] and len(given) >= 3:
            numbers += given[:3]
        elif given[0] == 4:
            numbers.append(4 if given[1] else 24)
    return numbers


def _colour(number: int, rest: deque[int]) -> str:
    kind = rest.popleft() if rest else 0
    count = {5: 1, 2: 3}.get(kind, 0)
    values = [rest.popleft() for _ in range(min(count, len(rest)))]
    is_good = count and len(values) == count and max(values) < 256
    return f"{number};{kind};{';'.join(map(str, values))}" if is_good else ""


def _whole(row: Any, columns: int) -> Row:
    """Return a row in which every wide character has its right half, and nothing else has one."""
    cells = [row.get(x, BLANK) for x in range(columns)]
    for x, cell in enumerate(cells):
        if cell.data == "":
            if x == 0 or cells[x - 1].data == "" or _width(cells[x - 1].data[0]) != 2:
                cells[x] = cell._replace(data=" ")
        elif cell.data >= "\x80" and _width(cell.data[0]) == 2:  # noqa: SIM102  is read more easily
            if x + 1 == columns or cells[x + 1].data != "":
                cells[x] = cell._replace(data=" ")
    while cells and cells[-1] == BLANK:
        cells.pop()
    return cells


# Painting


@dataclass(frozen=True, slots=True)
class Picture:
    """What to draw on a fresh terminal.

    Attributes:
        unfinished: Bytes at the end of the output that are not in it: their rest has not come.
    """

    data: bytes
    unfinished: int


def paint(kept: Kept) -> Picture:
    """Return the screen after all of `kept`. Takes a while: to be called in a thread."""
    pieces = list(_pieces(kept))
    grid = draw(pieces)
    waiting = len(grid.waiting)
    unfinished = waiting if waiting <= UNFINISHED_BYTES_MAX else 0
    data = render(grid, kept.modes)
    return Picture(data, unfinished)


def draw(pieces: Sequence[Piece]) -> Grid:
    """Return the screen after these pieces of output."""
    grid = Grid(pieces[0].size if pieces else Size(80, 24))
    for piece in pieces:
        grid.resize(piece.size.rows, piece.size.columns)
        if piece.modes is not None:
            grid.begin_with(piece.modes)
        grid.feed(piece.data)
    return grid


def _pieces(kept: Kept) -> Iterable[Piece]:
    """Yield what has to be drawn again: the usual screen's end, then the alternate one's."""
    entered = kept.modes.alternate_at if kept.modes.alternate else kept.end
    entered = max(entered, kept.start)
    begin = max(kept.start, entered - TAIL_BYTES)
    if kept.end - entered > 4 * TAIL_BYTES:
        yield from _span(kept, begin, entered)
        yield from _span(kept, kept.end - TAIL_BYTES, kept.end)
    else:
        yield from _span(kept, begin, kept.end)
    yield Piece(kept.size, b"")


def _span(kept: Kept, wanted: int, end: int) -> Iterable[Piece]:
    """Yield the output to `end`, from the last note of the modes that is not after `wanted`."""
    modes, at, size = Modes(), kept.start, Size(80, 24)
    marks = list(kept.marks(since=wanted))
    for mark in marks:
        if isinstance(mark.what, Modes) and kept.start <= mark.offset <= wanted:
            modes, at = mark.what, mark.offset
    sizes = [(mark.offset, mark.what) for mark in marks if isinstance(mark.what, Size)]
    for offset, known in sizes:
        size = known if offset <= at else size
    changes = [(offset, known) for offset, known in sizes if at < offset < end]
    first: Modes | None = modes
    for offset, following in [*changes, (end, kept.size)]:
        data = kept.read(at, offset - at)
        if first is not None and at > kept.start:
            data = first.pending + data.lstrip(_CONTINUATIONS)
        yield Piece(size, data, first)
        size, at, first = following, offset, None


_CONTINUATIONS = bytes(range(0x80, 0xC0))


def render(grid: Grid, modes: Modes) -> bytes:
    """Return what makes a fresh terminal of this size look and behave like `grid` in `modes`.

    There is nothing in it that a terminal answers.
    """
    rows = grid.usual_rows()
    history = grid.history
    while True:
        usual = "\r\n".join(_row(row) for row in [*history, *rows])
        data = (usual + _state(grid, modes)).encode("utf-8", "replace")
        if len(data) < FRAME_BYTES_MAX - 64 or not history:
            return data
        history = history[len(history) // 2 + 1 :]


def _state(grid: Grid, modes: Modes) -> str:
    out: list[str] = []
    if grid.usual is not None:
        if (saved := grid.usual[1]) is not None:
            out += [_place(saved), "" if grid.shown == 1049 else "\x1b7"]
        out += [f"\x1b[?{grid.shown}h", "\x1b[m\x1b[2J"]
        for y in range(grid.lines):
            if row := grid.row(y):
                out.append(f"\x1b[{y + 1}H{_row(row)}")
    if grid.saved is not None:
        out += [_place(grid.saved), "\x1b7"]
    if grid.tabstops != set(range(8, grid.columns, 8)):
        stops = sorted(stop for stop in grid.tabstops if stop < grid.columns)
        out += ["\x1b[3g", *(f"\x1b[{stop + 1}G\x1bH" for stop in stops)]
    top = 0
    if grid.margins is not None:
        top = grid.margins.top
        out.append(f"\x1b[{top + 1};{grid.margins.bottom + 1}r")
    out.append(_cursor(grid, top if mo.DECOM in grid.mode else 0))
    out += _modes(modes)
    return "".join(out)


def _cursor(grid: Grid, top: int) -> str:
    """Return what puts the cursor where it is, also behind the last column."""
    x, y, out = grid.cursor.x, grid.cursor.y, ""
    if mo.DECOM in grid.mode:
        out, y = "\x1b[?6h", y - top
    if x < grid.columns:
        return f"{out}\x1b[{y + 1};{x + 1}H{_look(grid.cursor.attrs)}"
    row = grid.row(grid.cursor.y)
    row += [BLANK] * (grid.columns - len(row))
    last = row[-1]
    if last.data == "":
        last, x = row[-2], x - 1
    return f"{out}\x1b[{y + 1};{x}H{_look(last)}{last.data}{_look(grid.cursor.attrs)}"


def _modes(modes: Modes) -> Iterable[str]:
    set_ = modes.private - USUAL - {6}
    yield from (f"\x1b[?{number}h" for number in sorted(set_))
    yield from (f"\x1b[?{number}l" for number in sorted(USUAL - modes.private))
    for slot, charset in zip("()", modes.charsets, strict=True):
        if charset != "B":
            yield f"\x1b{slot}{charset}"
    yield "\x0e" if modes.is_shifted else ""
    yield "\x1b[4h" if modes.is_inserting else ""
    yield "\x1b[20h" if modes.is_newline else "\x1b[20l"  # xterm.js keeps it over a reset.
    yield "\x1b=" if modes.has_keypad else ""
    yield f"\x1b[{modes.cursor} q" if modes.cursor else ""
    yield f"\x1b]2;{modes.title}\x1b\\" if modes.title else ""


def _place(saved: Saved) -> str:
    return f"\x1b[{saved.y + 1};{saved.x + 1}H{_look(saved.pen)}"


def _look(cell: Cell) -> str:
    return f"\x1b[{';'.join(filter(None, ('0', cell.flags, cell.fg, cell.bg)))}m"


def _row(cells: Row) -> str:
    """Return a row from its first column on; viewers may know other widths than we do."""
    out: list[str] = []
    look = BLANK
    is_sure = True
    for x, cell in enumerate(cells):
        if cell.data == "":
            continue
        if not is_sure:
            out.append(f"\x1b[{x + 1}G")
        if cell[1:] != look[1:]:
            out.append(_look(cell))
            look = cell
        out.append(cell.data)
        is_sure = len(cell.data) == 1 and _width(cell.data) == 1
    if look[1:] != BLANK[1:]:
        out.append("\x1b[m")
    return "".join(out)
