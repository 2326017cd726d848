"""One bare mirror per repository: everything else on the node borrows its objects.

Nothing is ever pruned from it, because trees and workspaces have no copy of their own.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent import disk, files
from agent.errors import NodeError
from agent.git import GitFailed, Login, git
from agent.process import Watch

REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
PROTOCOLS = ("http", "https")
LOCK_POLL_S = 0.05
REFUSALS: Sequence[tuple[str, str, str]] = (
    (
        (
            r"Authentication failed|could not read (Username|Password)|returned error: 40[13]"
            r"|Invalid username|Access denied|Permission.*denied"
        ),
        "clone_refused",
        "The code host refused to let us read {name}; check that the app is installed for it.",
    ),
    (
        (
            r"[Rr]epository .*not found|returned error: 404|does not appear to be a git repository"
            r"|not exported"
        ),
        "unknown_repository",
        "There is no repository {name} at {url}; check the project's repository.",
    ),
    (
        (
            r"Could not resolve host|Failed to connect|Connection (refused|reset|timed out)"
            r"|returned error: 5\d\d|unable to access|early EOF|RPC failed"
        ),
        "forge_unreachable",
        "The code host of {name} does not answer; try again later.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What the code host has.

    Attributes:
        commits: Branch name to commit.
        tags: Tag name to object.
    """

    commits: Mapping[str, str]
    tags: Mapping[str, str]


class Mirror:
    """The mirror of one repository at one address."""

    def __init__(self, layout: files.Layout, repository: str, url: str) -> None:
        self.repository = repository
        self.url = url
        self.path = layout.mirror(repository, url)

    async def refresh(self, login: Login, *, watch: Watch | None = None) -> None:
        """Fetch everything that is new. One at a time, across processes.

        Raises:
            NodeError: With a code that says who must act.
        """
        async with locked(self.path.with_suffix(".lock")) as lock:
            os.utime(lock)  # The time of the last use: see agent/housekeeping.py.
            try:
                await self._fetch(login, lock, watch)
            except (GitFailed, OSError) as error:
                sweep(self.path)  # Half a pack must not fill the disk until the next fetch.
                raise self.refusal(error) from error

    async def _fetch(self, login: Login, lock: int, watch: Watch | None) -> None:
        await self._ensure()
        sweep(self.path)
        await git(
            *("fetch", "--progress", "--prune", "--no-tags", "--no-write-fetch-head", "--force"),
            *("--no-auto-maintenance", "--", self.url, *REFS),
            repository=self.path,
            protocols=PROTOCOLS,
            login=login,
            keep_open=(lock,),
            watch=watch,
        )

    async def _ensure(self) -> None:
        if self.path.exists():
            return
        part = self.path.with_suffix(".part")
        files.remove(part)
        await git("init", "--quiet", "--bare", "--template=", str(part))
        (part / "objects/info").mkdir(exist_ok=True)
        part.rename(self.path)

    async def heads(self) -> Heads:
        """Return branches and tags as of the last fetch."""
        listed = await git(
            *("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"),
            repository=self.path,
        )
        commits, tags = {}, {}
        for line in listed.text.splitlines():
            name, ref = line.split(" ", 1)
            if ref.startswith("refs/heads/"):
                commits[ref.removeprefix("refs/heads/")] = name
            else:
                tags[ref.removeprefix("refs/tags/")] = name
        return Heads(commits=commits, tags=tags)

    async def holds(self, commits: Sequence[str]) -> bool:
        """Whether all commits are on a branch of the code host, as of the last fetch."""
        for commit in commits if self.path.exists() else [""]:
            found = await git(
                *("for-each-ref", "--count=1", f"--contains={commit}", "refs/heads"),
                repository=self.path,
                check=False,
            )
            if found.code or not found.text:
                return False
        return True

    async def default_branch(self, login: Login) -> str:
        """Ask the code host for its default branch."""
        listed = await self.remote(login, "--symref", "HEAD")
        found = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", listed, re.MULTILINE)
        if found is None:
            raise NodeError(
                "empty_repository",
                f"{self.repository} has no default branch yet; push a first commit to it.",
            )
        return found[1]

    async def remote_head(self, branch: str, login: Login) -> str:
        """Return the commit of `branch` on the code host, empty if it is not there."""
        listed = await self.remote(login, f"refs/heads/{branch}")
        return listed.split("\t", 1)[0] if listed else ""

    async def remote(self, login: Login, *arguments: str) -> str:
        """Return what `git ls-remote` says."""
        options = [a for a in arguments if a.startswith("--")]
        patterns = [a for a in arguments if not a.startswith("--")]
        try:
            done = await git(
                *("ls-remote", *options, "--", self.url, *patterns),
                protocols=PROTOCOLS,
                login=login,
            )
        except GitFailed as error:
            raise self.refusal(error) from error
        return done.text

    def refusal(self, error: GitFailed | OSError) -> NodeError:
        """Say for people why the code host or the disk did not let us."""
        if disk.is_full(error):
            return disk.full(self.path.parent)
        text = error.complaint if isinstance(error, GitFailed) else str(error)
        for pattern, code, sentence in REFUSALS:
            if re.search(pattern, text):
                return NodeError(code, sentence.format(name=self.repository, url=self.url))
        return NodeError("git_failed", f"git could not read {self.repository}: {text[-300:]}")


@asynccontextmanager
async def locked(path: Path) -> AsyncGenerator[int]:
    """Hold a mirror's lock; a git that outlived its agent holds it too, until it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def sweep(mirror: Path) -> None:
    """Remove what a killed git left in a bare repository that nobody else is using now."""
    for lock in (*mirror.glob("*.lock"), *mirror.glob("refs/**/*.lock")):
        lock.unlink(missing_ok=True)
    for part in (*mirror.glob("objects/pack/tmp_*"), *mirror.glob("objects/??/tmp_obj_*")):
        part.unlink(missing_ok=True)
