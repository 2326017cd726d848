"""Where a workspace lies on this host, and what its repository starts from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import files
from agent.process import Identity
from agent.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One workspace as `capture` and `restore` see it.

    Attributes:
        url: The repository's address; a copy fits another one only if that has its base commit.
        base: Name of the base branch.
        base_commit: A commit of the base that the mirror holds. Files that are as they are there
            are noted in a copy, not stored.
        tree: The working tree: the mounted overlay, or the clone.
        agent: The coding agent's own folder with its conversations.
        terminals: What terminals wrote; may be missing, as may `agent`.
        mirror: The bare mirror of the repository.
        owner: Who owns what is restored: the remote user. What terminals wrote is the node's.
        settings: Lines of git's configuration that belong to the node and not to the work, such
            as the address of the push gate. They win over those in a copy.
    """

    workspace: str
    url: str
    base: str
    base_commit: str
    tree: Path
    agent: Path
    terminals: Path
    mirror: Path
    owner: Identity
    settings: Mapping[str, str]

    def roots(self) -> Mapping[str, Path]:
        """Return the folders of which a copy is made, by their names in it."""
        return {"tree": self.tree, "agent": self.agent, "terminals": self.terminals}

    def owner_of(self, name: str) -> Identity:
        """Return who owns what has this name in a copy."""
        if name.startswith("terminals"):
            return Identity(uid=os.geteuid(), gid=os.getegid())
        return self.owner


def site_of(layout: files.Layout, record: Record, tree: Path, settings: Mapping[str, str]) -> Site:
    """Return where a workspace of this node lies; `tree` is mounted."""
    home = layout.workspace(record.id)
    order = record.order
    return Site(
        workspace=record.id,
        url=order.url,
        base=record.base,
        base_commit=record.base_commit,
        tree=tree,
        agent=home / "run/claude",
        terminals=home / "terminals",
        mirror=layout.mirror(order.repository, order.url),
        owner=Identity(uid=record.uid, gid=record.gid),
        settings={name: value for name, value in settings.items() if name.startswith(NODES)},
    )


NODES = ("remote.origin.url", "remote.origin.pushurl", "credential.")
OF_THE_NODE = frozenset({"tree/.git/objects/info/alternates"})
"""Where git borrows objects is for each node to say."""
STALE = frozenset({"tree/.git/index.lock", "tree/.git/HEAD.lock"})
"""Locks of a git that does not run any more; put back they would stop the next one."""
