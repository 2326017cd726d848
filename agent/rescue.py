"""Copies of work that outlive their workspace, and until when.

A copy is kept until everything in it has been on the code host for 30 days, or until 30 days after
a person discarded it by moving it to `discarded`. Nothing else removes one (G4).
"""

import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex

from agent import files
from core.wire import CreateWorkspace

MARK = "uncollected"
DISCARDED = "discarded"
KEEP_S = 30 * 86_400
"""The same number as in `adapters/local/files.py`, for copies of nodes that are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What is known of a bundle; in a file beside it.

    Attributes:
        bundle: Its file name.
        tips: The commits that it was made for; all others are behind them.
        remote_at: Since when all of them are on the code host, 0 for not yet.
    """

    bundle: str
    workspace: str
    repository: str
    url: str
    tips: tuple[str, ...]
    remote_at: float = 0


@dataclass(frozen=True, slots=True)
class Rescue:
    """The kept copies of this node."""

    layout: files.Layout

    def began(self, home: Path) -> None:
        """Note that somebody works in the workspace of `home`."""
        (home / MARK).touch()

    def is_over(self, home: Path) -> None:
        """Note that all work of the workspace was collected, or is in a rescue copy."""
        (home / MARK).unlink(missing_ok=True)

    def keep(self, home: Path) -> Path | None:
        """Keep what a workspace changed, if it was not collected; return the copy.

        Of an overlay that is its upper layer, with git's new objects; of a clone all files. Nothing
        of the container is asked, so it may be gone. Links are kept as links.

        Raises:
            OSError: There is no room for the copy; then nothing may be removed.
        """
        upper, clone = home / "layer/upper", home / "src"
        source = upper if upper.is_dir() else clone
        if not (home / MARK).exists() or not source.is_dir():
            return None
        self.layout.scratch.mkdir(parents=True, exist_ok=True)
        self.layout.rescue.mkdir(parents=True, exist_ok=True)
        name = f"{home.name}-{token_hex(4)}-uncollected.tar.gz"  # It may come back and go again.
        part = self.layout.scratch / name
        with tarfile.open(part, "w:gz", compresslevel=1) as tar:
            tar.add(source, arcname=home.name)
        kept = part.replace(self.layout.rescue / name)
        self.is_over(home)  # What a kill leaves of the files must not take this one's place.
        return kept

    def take(self, part: Path, name: str) -> Path:
        """Keep a finished file of the scratch folder as `name`."""
        self.layout.rescue.mkdir(parents=True, exist_ok=True)
        return part.replace(self.layout.rescue / name)

    def note(self, name: str, order: CreateWorkspace, tips: Sequence[str]) -> None:
        """Note what is in a bundle. A bundle without a note is kept for ever."""
        about = Copy(
            bundle=name,
            workspace=order.workspace,
            repository=order.repository,
            url=order.url,
            tips=tuple(tips),
        )
        self._write(about)

    def note_remote(self, copy: Copy, *, at: float) -> None:
        """Note since when everything in a bundle is on the code host."""
        self._write(Copy(**{**asdict(copy), "remote_at": at}))

    def copies(self) -> Sequence[Copy]:
        """Return what is known of the bundles that are here."""
        found = []
        for note in sorted(self.layout.rescue.glob("*.bundle.json")):
            with suppress(TypeError, KeyError):
                raw = files.read_json(note) or {}
                found.append(Copy(**{**raw, "tips": tuple(raw["tips"])}))
        return [one for one in found if (self.layout.rescue / one.bundle).exists()]

    def drop(self, sha256: str) -> None:
        """Remove the rescue copy with this SHA-256, which somebody else has; gone is fine."""
        with suppress(ValueError):
            self.layout.copy(sha256).unlink(missing_ok=True)

    def expire(self, *, now: float) -> Sequence[str]:
        """Delete the copies whose time is over; return their names."""
        over = [
            self.layout.rescue / copy.bundle
            for copy in self.copies()
            if copy.remote_at and now - copy.remote_at >= KEEP_S
        ]
        discarded = (self.layout.rescue / DISCARDED).glob("*")
        over += [path for path in discarded if now - path.lstat().st_ctime >= KEEP_S]
        for path in over:
            files.remove(path)
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)
        return [path.name for path in over]

    def _write(self, copy: Copy) -> None:
        files.write_json(self.layout.rescue / f"{copy.bundle}.json", asdict(copy))
