"""Port `forge` in a dictionary."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from core.errors import AppError, NotFoundError, RefusedError
from core.ports.forge import GitAccess, Pull, PullDraft, PullState, Scope
from core.project import RepoRef
from core.secret import Secret

URL = "https://forge.invalid"
LIFE_S_MAX = 3600


@dataclass(slots=True)
class MemoryRepository:
    """Branches and pull requests of one repository, newest pull request last.

    Attributes:
        sizes: Commits, additions, deletions and files that a branch brings; (1, 1, 0, 1) unless
            said.
        texts: Title and body by the pull request's number.
    """

    default_branch: str = "main"
    heads: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    pulls: dict[int, Pull] = field(default_factory=dict)
    texts: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class MemoryForge:
    """A code host without git.

    Attributes:
        repositories: By `owner/name`; tests put them here.
        tokens: What each token that was handed out opens.
        fail_next: Lever: the error that the next call of a method raises before it acts.
        lose_next: Lever: the error that the next call of a method raises after it acted.
    """

    now: Callable[[], datetime]
    repositories: dict[str, MemoryRepository] = field(default_factory=dict)
    tokens: dict[str, tuple[RepoRef, Scope]] = field(default_factory=dict)
    fail_next: dict[str, AppError] = field(default_factory=dict)
    lose_next: dict[str, AppError] = field(default_factory=dict)

    async def access(self, repo: RepoRef, *, scope: Scope, ttl_s: float) -> GitAccess:
        """See `Forge.access`."""
        self._repository("access", repo)
        token = f"memory-{len(self.tokens) + 1}"
        self.tokens[token] = (repo, scope)
        return GitAccess(
            url=f"{URL}/{repo}.git",
            username="x-access-token",
            token=Secret(token),
            expires_at=self.now() + timedelta(seconds=min(ttl_s, LIFE_S_MAX)),
        )

    async def default_branch(self, repo: RepoRef) -> str:
        """See `Forge.default_branch`."""
        return self._repository("default_branch", repo).default_branch

    async def head(self, repo: RepoRef, branch: str) -> str | None:
        """See `Forge.head`."""
        return self._repository("head", repo).heads.get(branch)

    async def open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        """See `Forge.open_pull`."""
        kept = self._repository("open_pull", repo)
        found = self._find(kept, draft.head)
        if found is None or found.state != "open":
            found = self._open(kept, repo, draft)
        kept.pulls[found.number] = replace(found, base=draft.base)
        kept.texts[found.number] = (draft.title, draft.body)
        if error := self.lose_next.pop("open_pull", None):
            raise error
        return kept.pulls[found.number]

    async def pull(self, repo: RepoRef, number: int) -> Pull:
        """See `Forge.pull`."""
        kept = self._repository("pull", repo)
        if number not in kept.pulls:
            raise NotFoundError(f"{repo} has no pull request {number}.")
        return self._now(kept, kept.pulls[number])

    async def find_pull(self, repo: RepoRef, head: str) -> Pull | None:
        """See `Forge.find_pull`."""
        return self._find(self._repository("find_pull", repo), head)

    def push(self, repo: RepoRef, branch: str, sha: str) -> None:
        """Lever: somebody pushed."""
        self.repositories[str(repo)].heads[branch] = sha

    def end(self, repo: RepoRef, number: int, state: PullState) -> None:
        """Lever: a person merged or closed a pull request."""
        kept = self.repositories[str(repo)]
        kept.pulls[number] = replace(self._now(kept, kept.pulls[number]), state=state)

    def _repository(self, method: str, repo: RepoRef) -> MemoryRepository:
        if error := self.fail_next.pop(method, None):
            raise error
        if str(repo) not in self.repositories:
            raise NotFoundError(f"There is no repository {repo}, or we may not see it.")
        return self.repositories[str(repo)]

    def _find(self, kept: MemoryRepository, head: str) -> Pull | None:
        ours = [self._now(kept, pull) for pull in kept.pulls.values() if pull.head == head]
        return max(ours, key=lambda pull: (pull.state == "open", pull.number), default=None)

    def _open(self, kept: MemoryRepository, repo: RepoRef, draft: PullDraft) -> Pull:
        for branch in (draft.head, draft.base):
            if branch not in kept.heads:
                raise RefusedError("Memory", f"there is no branch {branch}")
        if kept.heads[draft.head] == kept.heads[draft.base]:
            raise RefusedError("Memory", f"No commits between {draft.base} and {draft.head}")
        number = len(kept.pulls) + 1
        commits, additions, deletions, files = kept.sizes.get(draft.head, (1, 1, 0, 1))
        return Pull(
            number=number,
            url=f"{URL}/{repo}/pull/{number}",
            state="open",
            draft=draft.draft,
            head=draft.head,
            head_sha=kept.heads[draft.head],
            base=draft.base,
            commits=commits,
            additions=additions,
            deletions=deletions,
            changed_files=files,
        )

    def _now(self, kept: MemoryRepository, pull: Pull) -> Pull:
        if pull.state != "open":
            return pull
        return replace(pull, head_sha=kept.heads.get(pull.head, pull.head_sha))
