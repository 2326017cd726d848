"""Port: the code host."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from core.project import RepoRef
from core.secret import Secret

Scope = Literal["read", "write"]
PullState = Literal["open", "merged", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAccess:
    """What git needs to reach one repository over HTTP.

    Attributes:
        url: `https://{host}/{owner}/{name}.git`, without a secret in it.
        username: What goes before the token where a user name is wanted.
        expires_at: When the bearer must stop using it.
    """

    url: str
    username: str
    token: Secret
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PullDraft:
    """A pull request as we want it.

    Attributes:
        head: Branch with the work, of the same repository.
        base: Branch that is to take it.
        body: Markdown.
        draft: Whether it is marked as not ready for review.
    """

    head: str
    base: str
    title: str
    body: str
    draft: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """A pull request as it is.

    Attributes:
        url: Its page for people.
        head_sha: Commit at the tip of its branch; the last one it had, once merged or closed.
        commits: How many commits it brings.
        additions: Lines that it adds; `deletions` likewise.
    """

    number: int
    url: str
    state: PullState
    draft: bool
    head: str
    head_sha: str
    base: str
    commits: int
    additions: int
    deletions: int
    changed_files: int


class Forge(Protocol):
    """The code host.

    Promises, each held by a test of the same number in `tests/contracts/test_forge.py`:

    1. `access` opens the one repository and no other, for git only: `read` fetches, `write` pushes
       as well.
    2. What `access` returns expires within `ttl_s` and within an hour.
    3. `default_branch` and `head` tell what is there now; a missing branch has no head.
    4. `open_pull` is idempotent by head branch: while a pull request of the branch is open there is
       one, however often, from however many places and after whatever lost answer it is asked for.
    5. `open_pull` brings title, body and base of an open pull request to the draft's. Whether it is
       marked as a draft is decided when it is opened; afterwards that is people's.
    6. `open_pull` does not touch a merged or closed pull request: it opens the next one.
    7. `pull` and `find_pull` tell state and size as they are now; `find_pull` returns the newest
       pull request of the branch, an open one before others.
    8. Only `core.errors.OutsideError` and its kinds and `NotFoundError` leave these methods; a
       repository that we may not see is not found.
    """

    async def access(self, repo: RepoRef, *, scope: Scope, ttl_s: float) -> GitAccess:
        """Return a fresh token for git in `repo`. It is stored nowhere."""
        ...

    async def default_branch(self, repo: RepoRef) -> str:
        """Return the branch that a clone checks out."""
        ...

    async def head(self, repo: RepoRef, branch: str) -> str | None:
        """Return the id of the commit at the tip of `branch`, None if there is no such branch."""
        ...

    async def open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        """Open the pull request of a branch that was pushed, or bring the open one up to date.

        Raises:
            RefusedError: If a branch is missing or there is nothing to take; with the code host's
                own sentence.
        """
        ...

    async def pull(self, repo: RepoRef, number: int) -> Pull:
        """Return a pull request."""
        ...

    async def find_pull(self, repo: RepoRef, head: str) -> Pull | None:
        """Return the pull request of a branch, None if it never had one."""
        ...
