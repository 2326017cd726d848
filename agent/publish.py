"""Publication: from commits in a workspace to a branch on the code host.

The steps work on a bare repository that the container cannot reach, filled from the bundle and
borrowing from the mirror. HEAD, base and remote are compared there and not as anybody claims.
"""

from collections.abc import Sequence
from pathlib import Path

from agent import files
from agent.errors import NodeError
from agent.git import GitFailed, Login, git
from agent.mirror import PROTOCOLS, Mirror, sweep
from agent.record import Record
from core.wire import Collected, FileChange, Push, Pushed

COLLECTED = "refs/collected"
PUSHED = "refs/pushed"
SEEN = "refs/seen"
FILES_MAX = 3000
"""A card shows a few; GitHub's own list of a pull request's files ends at 3,000."""


class Publication:
    """The bare repository of one workspace."""

    def __init__(self, layout: files.Layout, record: Record, mirror: Mirror) -> None:
        self._record = record
        self._mirror = mirror
        self.path = layout.publish(record.id)

    async def take_in(self, bundle: Path | None, *, head: str, seen: str) -> None:
        """Fetch a bundle of a workspace and check its objects.

        Raises:
            NodeError: `commits_refused` if they are damaged or `head` is not among them.
        """
        await self._ensure()
        if bundle is not None:
            await self._fetch(bundle)
        if not await self._has(head):
            raise NodeError(
                "commits_refused",
                "The workspace's commits could not be read; look into its repository with git "
                "fsck.",
            )
        await self._set(f"{COLLECTED}/head", head)
        await self._set(f"{SEEN}/branch", seen if seen and await self._has(seen) else "")

    async def _fetch(self, bundle: Path) -> None:
        wanted = ("+HEAD:refs/collected/HEAD", "+refs/*:refs/collected/*")
        try:
            await git(
                *("-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags"),
                *("--no-write-fetch-head", "--no-auto-maintenance", str(bundle)),
                *(wanted if await self._bundle_has_head(bundle) else wanted[1:]),
                repository=self.path,
                protocols=("file",),
            )
        except GitFailed as error:
            raise NodeError(
                "commits_refused",
                f"The workspace's commits are damaged: {error.complaint[-200:]}; mend them with "
                "git fsck there.",
            ) from error

    async def _bundle_has_head(self, bundle: Path) -> bool:
        return any(name == "HEAD" for _, name in await heads_of(bundle, self.path))

    async def are_behind(self, commits: Sequence[str], tip: str) -> bool:
        """Whether `tip` and what it is made from hold all these commits."""
        for commit in commits:
            argv = ("merge-base", "--is-ancestor", commit, tip)
            if (await git(*argv, repository=self.path, check=False)).code:
                return False
        return True

    async def compare(self, login: Login, *, left: Sequence[str], bundle: str) -> Collected:
        """Compare what was taken in with the code host as it is now."""
        await self._mirror.refresh(login)
        head = await self._get(f"{COLLECTED}/head")
        heads = await self._mirror.heads()
        base_head = heads.commits.get(self._record.base, self._record.base_commit)
        base = await git("merge-base", base_head, head, repository=self.path, check=False)
        base_commit = base.text.split("\n")[0] or self._record.base_commit
        count = await git("rev-list", "--count", f"{base_commit}..{head}", repository=self.path)
        return Collected(
            head=head,
            base_commit=base_commit,
            remote=heads.commits.get(self._record.order.branch, ""),
            commits=int(count.text),
            files=await self._files(base_commit, head),
            left=tuple(left),
            bundle=bundle,
        )

    async def _files(self, base: str, head: str) -> tuple[FileChange, ...]:
        listed = await git(
            *("diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv"),
            *(base, head),
            repository=self.path,
        )
        changes = []
        for line in listed.out.decode(errors="replace").split("\0")[:FILES_MAX]:
            if line:
                added, removed, path = line.split("\t", 2)
                changes.append(FileChange(path=path, added=_lines(added), removed=_lines(removed)))
        return tuple(changes)

    async def push(self, order: Push, login: Login, *, token: str) -> Pushed:
        """Push `order.commit` to the workspace's branch; there already is fine.

        Raises:
            NodeError: `push_refused`, `branch_moved` or `secret_in_commits`.
        """
        self._permit(order)
        if not await self._has(order.commit):
            raise NodeError(
                "push_refused", "The commit to push was not collected; collect the work again."
            )
        await self._look_for(token, order.commit)
        remote = await self._mirror.remote_head(order.branch, login)
        if remote != order.commit:
            await self._guard(remote, order)
            await self._push(order, login, remote)
            remote = await self._mirror.remote_head(order.branch, login)
        if remote != order.commit:
            raise NodeError(
                "push_refused", f"The code host did not keep the push to {order.branch}; try again."
            )
        await self._set(f"{PUSHED}/branch", order.commit)
        return Pushed(commit=order.commit, branch=order.branch)

    def _permit(self, order: Push) -> None:
        mine = self._record.order.branch
        if order.branch != mine or not mine.startswith("samovar/") or mine == self._record.base:
            raise NodeError(
                "push_refused",
                f"Only {mine!r:.100} may be pushed from this workspace, not {order.branch!r:.100}.",
            )

    async def _look_for(self, token: str, commit: str) -> None:
        """Refuse commits that hold the workspace's own token."""
        shown = await git(
            *("log", "--format=%B", "--patch", "--text", "--no-ext-diff", "--no-textconv"),
            f"{self._record.base_commit}..{commit}",
            repository=self.path,
        )
        if token.encode() in shown.out:
            raise NodeError(
                "secret_in_commits",
                "A commit holds the workspace's own token, so nothing was pushed; take it out of "
                "the history.",
            )

    async def _guard(self, remote: str, order: Push) -> None:
        """Refuse to overwrite commits that the workspace has never seen."""
        known = {await self._get(f"{PUSHED}/branch"), await self._get(f"{SEEN}/branch"), ""}
        if remote in known:
            return
        ahead = await git(
            *("merge-base", "--is-ancestor", remote, order.commit),
            repository=self.path,
            check=False,
        )
        if ahead.code:
            raise NodeError(
                "branch_moved",
                f"{order.branch} has commits on the code host that are not in the workspace; "
                "merge them there first.",
            )

    async def _push(self, order: Push, login: Login, remote: str) -> None:
        reference = f"refs/heads/{order.branch}"
        try:
            await git(
                *("push", "--porcelain", "--no-verify", "--no-follow-tags"),
                f"--force-with-lease={reference}:{remote}",
                *("--", self._mirror.url, f"+{order.commit}:{reference}"),
                repository=self.path,
                protocols=PROTOCOLS,
                login=login,
            )
        except GitFailed as error:
            refusal = self._mirror.refusal(error)
            code = "push_refused" if refusal.code in {"git_failed", "clone_refused"} else None
            raise NodeError(
                code or refusal.code,
                f"The code host refused the push to {order.branch}: {error.complaint[-300:]}"
                if code
                else refusal.text,
            ) from error

    async def _ensure(self) -> None:
        if self.path.exists():
            sweep(self.path)
            return
        part = self.path.with_suffix(".part")
        files.remove(part)
        part.parent.mkdir(parents=True, exist_ok=True)
        await git("init", "--quiet", "--bare", "--template=", str(part))
        (part / "objects/info").mkdir(exist_ok=True)
        (part / "objects/info/alternates").write_text(f"{self._mirror.path}/objects\n")
        part.rename(self.path)

    async def _has(self, commit: str) -> bool:
        found = await git(
            "cat-file", "-e", f"{commit}^{{commit}}", repository=self.path, check=False
        )
        return found.code == 0

    async def _get(self, reference: str) -> str:
        found = await git(
            "rev-parse", "-q", "--verify", reference, repository=self.path, check=False
        )
        return found.text

    async def _set(self, reference: str, commit: str) -> None:
        verb = ("update-ref", reference, commit) if commit else ("update-ref", "-d", reference)
        await git(*verb, repository=self.path)


async def heads_of(bundle: Path, repository: Path) -> Sequence[tuple[str, str]]:
    """Return commit and name of each reference in a bundle."""
    listed = await git("bundle", "list-heads", str(bundle), repository=repository)
    pairs = (line.partition(" ") for line in listed.text.splitlines())
    return [(commit, name) for commit, _, name in pairs]


def _lines(count: str) -> int:
    return int(count) if count.isdigit() else 0
