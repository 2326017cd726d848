"""A PTY in a workspace, however it is held. One contract test runs over all that implement it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from core.ids import TerminalId
from core.viewing import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What is to run in a PTY, and where.

    Attributes:
        container: Docker's id.
        user: The devcontainer's remote user, by name.
        folder: Where the shell starts, inside.
        env: Its environment; `TERM` and the like are added by the line.
        command: What runs; empty for the user's own login shell.
        run_dir: Host side of `/run/samovar`.
    """

    terminal: TerminalId
    container: str
    user: str
    folder: str
    env: Mapping[str, str] = field(repr=False)
    run_dir: Path
    size: Size
    command: tuple[str, ...] = ()


class Line(Protocol):
    """One PTY.

    Promises, each held by a test of the same number in `tests/docker/test_lines.py`:

    1. `read` returns every byte that the shell wrote, in order, with the offset of the first, and
       `b""` once the shell has ended and all was read. Offsets count from the beginning of the
       shell; they leap where bytes were thrown away because nobody read for long.
    2. As long as nobody calls `read`, the shell stops after a bounded number of bytes, and goes on
       when somebody does.
    3. `write` waits while the shell does not read; bytes arrive as they are, also Ctrl-C.
    4. The shell runs as the user, in the folder, with the environment, and sees its size; `resize`
       tells it of another one.
    5. `hang_up` ends the shell and what it started in its PTY, at first kindly; again is fine.
    6. `close` lets go of a shell that goes on; whoever ends the shell's container ends it too.
    """

    async def read(self) -> tuple[int, bytes]:
        """Return the next bytes and their offset. Called by one reader at a time."""
        ...

    async def write(self, data: bytes) -> None:
        """Type."""
        ...

    async def resize(self, size: Size) -> None:
        """Give the PTY another size."""
        ...

    async def exit_code(self) -> int | None:
        """Return the exit code once `read` has said that all is over.

        Minus a signal's number for a shell that was killed; None where nobody knows.
        """
        ...

    async def hang_up(self) -> None:
        """End the shell."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Lines(Protocol):
    """Opens PTYs."""

    async def open(self, shell: Shell) -> Line:
        """Start a shell.

        Raises:
            NodeError: It cannot be started.
        """
        ...

    async def find(self, shell: Shell, *, after: int) -> Line | None:
        """Return the line that an earlier life of the node agent opened, from `after` on.

        None if it is not there any more, or was of a kind that ends with its node agent.
        """
        ...
