"""The bare repositories behind the stand-in, and what its pages and answers read from them."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.demo.forge.diff import FileDiff, read_diff

AUTHOR = "Samovar Demo <demo@samovar.invalid>"
SETTINGS = """
[http]
	receivepack = true
[uploadpack]
	allowfilter = true
	allowanysha1inwant = true
[gc]
	auto = 0
"""
"""Like GitHub: push over HTTP, partial clones, any reachable commit may be asked for."""
_FORMAT = "%H%x00%P%x00%T%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B%x01"


class GitError(Exception):
    """A git command failed. The message is what git said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit. Times are ISO 8601 with their offset, as git keeps them."""

    sha: str
    parents: tuple[str, ...]
    tree: str
    author: str
    author_email: str
    authored_at: str
    committer: str
    committer_email: str
    committed_at: str
    message: str

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.split("\n", 1)[0]


def environment() -> dict[str, str]:
    """Return the surroundings of every git process: nothing of this machine's settings."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }


class Repositories:
    """Bare repositories in `root/{owner}/{name}.git`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where `owner/name` lies, whether it exists or not."""
        return self.root / f"{name}.git"

    def exists(self, name: str) -> bool:
        """Say whether `owner/name` is here. Names that climb out of the root are not."""
        return ".." not in name.split("/") and (self.path(name) / "HEAD").is_file()

    def names(self) -> list[str]:
        """Return every `owner/name`, in order."""
        heads = self.root.glob("*/*.git/HEAD")
        return sorted(f"{h.parent.parent.name}/{h.parent.name[:-4]}" for h in heads)

    async def create(
        self, name: str, *, tree: Path | None, files: Mapping[str, str], branch: str
    ) -> str:
        """Make a repository with one commit and return its id. See `StandInForge`."""
        if self.exists(name):
            return await self.run(name, "rev-parse", f"refs/heads/{branch}")
        home = self.path(name)
        home.mkdir(parents=True)
        await self.run(name, "init", "--quiet", "--bare", "--template=", "-b", branch)
        with (home / "config").open("a", encoding="utf-8") as config:
            config.write(SETTINGS)
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            work = Path(folder) / "tree"
            await asyncio.to_thread(_lay_out, work, tree, files)
            inside = {"GIT_WORK_TREE": str(work), "GIT_INDEX_FILE": f"{folder}/index"}
            await self.run(name, "add", "--all", "--force", ".", extra=inside, cwd=work)
            tree_id = await self.run(name, "write-tree", extra=inside)
        return await self.commit(name, tree_id, branch=branch, message="First commit")

    async def commit(
        self, name: str, tree: str, *, branch: str, message: str, parents: Sequence[str] = ()
    ) -> str:
        """Put a commit of `tree` at the tip of `branch` and return its id."""
        person, _, email = AUTHOR.rstrip(">").partition(" <")
        who = {
            f"GIT_{role}_{k}": v
            for role in ("AUTHOR", "COMMITTER")
            for k, v in (("NAME", person), ("EMAIL", email))
        }
        over = [part for parent in parents for part in ("-p", parent)]
        sha = await self.run(name, "commit-tree", tree, *over, "-m", message, extra=who)
        await self.run(name, "update-ref", f"refs/heads/{branch}", sha)
        return sha

    async def run(
        self,
        name: str,
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        """Run git in a repository and return what it printed, without the last line end.

        Raises:
            GitError: If git ends with another status than 0.
        """
        process = await asyncio.create_subprocess_exec(
            "git",
            "-c",
            "core.quotePath=false",
            f"--git-dir={self.path(name)}",
            *arguments,
            env=environment() | dict(extra or {}),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await process.communicate()
        if process.returncode:
            raise GitError(said.decode(errors="replace").strip())
        return out.decode(errors="replace").removesuffix("\n")

    async def empty_tree(self, name: str) -> str:
        """Return the id of the tree without files, to which a first commit is compared."""
        return await self.run(name, "hash-object", "-t", "tree", "--stdin")

    async def find_head(self, name: str, branch: str) -> str | None:
        """Return the id of the commit at the tip of a branch, if there is such a branch."""
        try:
            return await self.run(name, "rev-parse", "--verify", "-q", f"refs/heads/{branch}")
        except GitError:
            return None

    async def default_branch(self, name: str) -> str:
        """Return the branch that HEAD names."""
        head = await asyncio.to_thread((self.path(name) / "HEAD").read_text, encoding="utf-8")
        return head.removeprefix("ref: refs/heads/").strip()

    async def refs(self, name: str) -> dict[str, str]:
        """Return every ref with the id that it points to."""
        lines = await self.run(name, "for-each-ref", "--format=%(refname) %(objectname)")
        pairs = (line.split(" ") for line in lines.splitlines())
        return {ref: sha for ref, sha in pairs}  # noqa: C416  a pair is a list, not a tuple

    async def commits(self, name: str, span: str, *, limit: int = 250) -> list[Commit]:
        """Return the commits of `span` (`main`, `a..b`), newest first."""
        text = await self.run(name, "log", f"-{limit}", f"--format={_FORMAT}", span, "--")
        return [_commit(part.lstrip("\n")) for part in text.split("\x01") if part.strip()]

    async def count(self, name: str, span: str) -> int:
        """Return how many commits `span` has."""
        return int(await self.run(name, "rev-list", "--count", span))

    async def diff(self, name: str, span: str) -> list[FileDiff]:
        """Return what `span` (`base...head`) changes, file by file."""
        options = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "-M", "--full-index")
        names, patches = await asyncio.gather(
            self.run(name, *options, "--name-status", "-z", span, "--"),
            self.run(name, *options, "--patch", span, "--"),
        )
        return read_diff(names, patches)


def _lay_out(work: Path, tree: Path | None, files: Mapping[str, str]) -> None:
    if tree is None:
        work.mkdir()
    else:
        shutil.copytree(tree, work, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    for path, text in files.items():
        target = work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _commit(text: str) -> Commit:
    sha, parents, tree, author, email, at, committer, c_email, c_at, message = text.split("\0", 9)
    return Commit(
        sha=sha,
        parents=tuple(parents.split()),
        tree=tree,
        author=author,
        author_email=email,
        authored_at=at,
        committer=committer,
        committer_email=c_email,
        committed_at=c_at,
        message=message.strip(),
    )
