"""What can be seen of a workspace's files. Its shapes travel as JSON from the node.

Names in a workspace are any bytes but `/` and zero; here a path is percent-encoded text, so none is
lost and none means anything else to whoever passes it on.
"""

from dataclasses import dataclass
from typing import Literal

EntryKind = Literal["folder", "file", "link", "other"]
ENTRIES_MAX = 2000
"""Entries of one folder that are told; `Listing.is_cut` says that there are more."""
DIFF_BYTES_MAX = 2 * 1024 * 1024
"""The beginning of a diff that is told."""
SHOWN_BYTES_MAX = 512 * 1024
"""The beginning of a file that is shown in a page; all of it can be downloaded."""


UPLOAD_BYTES_MAX = 1024 * 1024 * 1024
"""Largest file that is taken into a workspace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A TCP port on which something listens in a workspace.

    Attributes:
        name: What the devcontainer calls it (`portsAttributes`, `label`); empty without one.
    """

    number: int
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All of them, by number."""

    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a folder.

    Attributes:
        name: Percent-encoded.
        kind: A link is shown and never followed; `other` are sockets, FIFOs and devices.
        size: Bytes of a file.
        modified_at: Seconds since 1970.
    """

    name: str
    kind: EntryKind
    size: int = 0
    modified_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A folder, folders first."""

    entries: tuple[Entry, ...] = ()
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One line of `git status`.

    Attributes:
        path: Percent-encoded.
        index: What is staged, in the letters of git-status(1); `.` for nothing, `?` for a file
            that git does not know.
        tree: What is not staged.
    """

    path: str
    index: str
    tree: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs from the commit that the work started from.

    Attributes:
        base: That commit.
        status: Against the last commit of the branch.
        diff: Of all that git knows, commits and open changes together, in git's own form.
        is_cut: Whether `diff` is only a beginning.
    """

    base: str
    status: tuple[Change, ...] = ()
    diff: str = ""
    is_cut: bool = False
