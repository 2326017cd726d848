"""Contents from a bare repository of ours, one after the other."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from agent.git import SAFE, environment

CHUNK_BYTES = 1 << 20


class Blobs:
    """A git that gives contents by name, for the length of a `with` block."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository

    def __enter__(self) -> "Blobs":
        settings = [part for setting in SAFE for part in ("-c", setting)]
        self._git = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "--", "git", *settings, "cat-file", "--batch"],
            env={**environment(), "GIT_DIR": str(self._repository)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._git.kill()
        self._git.communicate()

    def read(self, blob: str) -> Iterator[bytes] | None:
        """Return the pieces of a content, to be read to their end; None if it is not there.

        Raises:
            OSError: git ended.
        """
        asking, answers = self._git.stdin, self._git.stdout
        assert asking is not None and answers is not None  # noqa: S101, PT018  asked for by PIPE
        asking.write(f"{blob}\n".encode())
        asking.flush()
        words = answers.readline().split()
        if not words:
            raise OSError("git gave no answer")
        if words[-1] == b"missing":
            return None
        pieces = self._pieces(int(words[2]))
        if words[1] == b"blob":
            return pieces
        for _ in pieces:
            pass
        return None

    def _pieces(self, size: int) -> Iterator[bytes]:
        assert self._git.stdout is not None  # noqa: S101  asked for by PIPE
        while size:
            piece = self._git.stdout.read(min(size, CHUNK_BYTES))
            if not piece:
                raise OSError("git ended within a content")
            size -= len(piece)
            yield piece
        self._git.stdout.read(1)
