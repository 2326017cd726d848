"""The working tree of a workspace: an overlay on a ready tree, or a clone that borrows objects."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import files, overlay
from agent.errors import NodeError
from agent.git import git, origin
from agent.mirror import Heads, Mirror
from agent.process import Identity
from agent.trees import (
    Tree,
    Trees,
    clone,
    write_lenders,
    write_lenders_inside,
    write_owned,
    write_references,
)

HELPER = "/opt/samovar/tools/git-credential-samovar"
NAME, EMAIL = "Samovar", "samovar@localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where the work starts.

    Attributes:
        branch: Branch to work on.
        commit: What is checked out: the branch on the code host, else the base branch.
        base: Base branch.
        base_commit: Where the branch left the base branch.
    """

    branch: str
    commit: str
    base: str
    base_commit: str


async def choose(mirror: Mirror, heads: Heads, *, base: str, branch: str) -> Start:
    """Decide where to start.

    Raises:
        NodeError: `unknown_branch`.
    """
    if base not in heads.commits:
        raise NodeError(
            "unknown_branch",
            f"{mirror.repository} has no branch {base!r}; name one that exists.",
        )
    commit = heads.commits.get(branch, heads.commits[base])
    found = await git(
        "merge-base", heads.commits[base], commit, repository=mirror.path, check=False
    )
    return Start(
        branch=branch,
        commit=commit,
        base=base,
        base_commit=found.text or heads.commits[base],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Folders of one workspace's working tree below `home`.

    Attributes:
        home: The workspace's own folder on the node.
        name: Last part of the repository's name, the folder's name inside too.
    """

    home: Path
    name: str

    @property
    def target(self) -> Path:
        """The working tree."""
        return self.home / "src" / self.name

    @property
    def layers(self) -> tuple[Path, Path]:
        """Upper and work folder of the overlay."""
        return self.home / "layer/upper", self.home / "layer/work"

    async def make(
        self,
        trees: Trees,
        start: Start,
        owner: Identity,
        *,
        heads: Heads,
        lenders: Sequence[Path],
        settings: Mapping[str, str],
        has_overlay: bool,
    ) -> Path | None:
        """Make the working tree on its branch; return the lower tree if it is an overlay."""
        await self.remove()
        self.target.mkdir(parents=True)
        lower = await self._overlay(trees, start, owner) if has_overlay else None
        if lower is None:
            os.chown(self.target, owner.uid, owner.gid)
            await clone(self.target, start.commit, owner, heads=heads, lenders=lenders)
        inside = self.target / ".git"
        write_lenders(inside, lenders, owner)
        write_references(inside, heads, owner)
        write_owned(inside / "config", git_file(settings), owner)
        await git(
            *("checkout", "--quiet", "--force", "--no-track", "-B", start.branch, start.commit),
            repository=inside,
            identity=owner,
            extra={"GIT_WORK_TREE": str(self.target)},
        )
        write_lenders_inside(inside, len(lenders), owner)
        return lower.path if lower else None

    async def _overlay(self, trees: Trees, start: Start, owner: Identity) -> Tree | None:
        async with trees.choosing:
            tree = trees.find(start.commit, owner.uid) or await trees.make(start.base_commit, owner)
            upper, _ = self.layers
            upper.mkdir(parents=True)
            os.chown(upper, owner.uid, owner.gid)
            return tree if await self.mount(tree.path) else None

    async def mount(self, lower: Path) -> bool:
        """Mount the overlay again, as after a reboot."""
        upper, work = self.layers
        return await overlay.mount(lower, upper, work, self.target)

    async def remove(self) -> None:
        """Delete the working tree with everything in it."""
        await overlay.unmount(self.target)
        await asyncio.to_thread(files.remove, self.home / "src")
        await asyncio.to_thread(files.remove, self.home / "layer")

    async def give_to(self, owner: Identity) -> None:
        """Change the owner of all files."""
        await asyncio.to_thread(give, self.target, owner)


def give(top: Path, owner: Identity) -> None:
    """Change the owner of a folder and all in it. Symbolic links are changed, not followed."""
    # By open folders: what runs in the container could put a link in a folder's place meanwhile.
    for _, _, names, folder in os.fwalk(top, follow_symlinks=False):
        os.fchown(folder, owner.uid, owner.gid)
        for name in names:
            os.chown(name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)


def repository_settings(*, url: str, push_url: str) -> Mapping[str, str]:
    """Return the git settings of a workspace: where to fetch and push, and who answers git."""
    return {
        "core.repositoryformatversion": "0",
        "core.filemode": "true",
        "core.bare": "false",
        "core.logallrefupdates": "true",
        "gc.auto": "0",
        "remote.origin.url": url,
        "remote.origin.pushurl": push_url,
        "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
        "push.default": "current",
        "user.name": NAME,
        "user.email": EMAIL,
        f"credential.{origin(url)}.helper": HELPER,
        f"credential.{origin(url)}.useHttpPath": "true",
        f"credential.{origin(push_url)}.helper": HELPER,
        f"credential.{origin(push_url)}.useHttpPath": "true",
    }


def git_file(settings: Mapping[str, str]) -> str:
    """Return a git configuration file."""
    lines = []
    for name, value in settings.items():
        section, _, rest = name.partition(".")
        subsection, _, variable = rest.rpartition(".")
        lines.append(f'[{section} "{_quoted(subsection)}"]' if subsection else f"[{section}]")
        lines.append(f'\t{variable} = "{_quoted(value)}"')
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
