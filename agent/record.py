"""What a node remembers of a workspace, on disk so that a restart finds it."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent import files
from core.ids import WorkspaceId
from core.wire import CreateWorkspace, FrameError, WorkspaceReady, from_json, to_json

FILE = "record.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One workspace.

    Attributes:
        order: How it was asked for last.
        base: Base branch, also when the order left it to the code host.
        lower: Ready tree below the overlay, empty for a clone.
        container: Id of its container, empty while there is none.
        uid: The remote user's, as is `gid`.
        root: Where the checkout is inside the container.
        folder: Where people work inside the container.
        config: The repository's own configuration file, empty if it has none.
        push_url: Repository at the push gate, as written in its git settings.
        copy: SHA-256 of the newest rescue copy that the files came from or went into.
        restored: Sentences about what was put back from it.
        is_ready: Whether `CreateWorkspace` was answered.
        is_broken: Whether the last attempt did not get the repository's own image.
    """

    order: CreateWorkspace
    base: str = ""
    base_commit: str = ""
    lower: str = ""
    container: str = ""
    user: str = ""
    uid: int = 0
    gid: int = 0
    root: str = ""
    folder: str = ""
    claude: str = ""
    config: str = ""
    push_url: str = ""
    recovered: str = ""
    notes: tuple[str, ...] = ()
    copy: str = ""
    restored: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    is_ready: bool = False
    is_broken: bool = False

    @property
    def id(self) -> WorkspaceId:
        """The workspace's id."""
        return self.order.workspace

    def answer(self, token_hash: str) -> WorkspaceReady:
        """Return the answer to the order."""
        return WorkspaceReady(
            workspace=self.order.workspace,
            attempt=self.order.attempt,
            container=self.container,
            user=self.user,
            folder=self.folder,
            base=self.base,
            base_commit=self.base_commit,
            token_hash=token_hash,
            recovered=self.recovered,
            notes=self.notes,
            restored=self.restored,
        )


def load(home: Path) -> Record | None:
    """Read the record in a workspace's folder, None if there is none that can be read."""
    raw = files.read_json(home / FILE)
    if raw is None:
        return None
    try:
        return from_json(Record, raw)
    except FrameError:
        return None


def save(home: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    files.write_json(home / FILE, to_json(record))


def forget(home: Path) -> None:
    """Remove the record; gone already is fine."""
    (home / FILE).unlink(missing_ok=True)


def park(home: Path, target: Path) -> None:
    """Move the record out of a workspace's folder, which takes no room; gone already is fine."""
    target.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        (home / FILE).replace(target)


def copy_of(parked: Path) -> str:
    """Return the newest rescue copy of a workspace whose record was moved; empty for none."""
    return str((files.read_json(parked) or {}).get("copy", ""))
