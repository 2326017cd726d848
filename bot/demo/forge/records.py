"""What the stand-in remembers besides git: pull requests, comments, checks; kept in one file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(slots=True, kw_only=True)
class PullRecord:
    """A pull request. `head_sha` follows the branch while it is open. Times: ISO 8601, UTC.

    Attributes:
        merged_sha: The commit that brought it into the base, empty until then.
    """

    repository: str
    number: int
    head: str
    base: str
    head_sha: str
    base_sha: str
    title: str
    body: str
    draft: bool
    created_at: str
    updated_at: str
    state: Literal["open", "closed"] = "open"
    closed_at: str | None = None
    merged_at: str | None = None
    merged_sha: str = ""

    @property
    def span(self) -> str:
        """The commits that it asks to take, in git's words."""
        return f"{self.base_sha}..{self.head_sha}"

    @property
    def change(self) -> str:
        """What it changes since the branches parted, in git's words."""
        return f"{self.base_sha}...{self.head_sha}"


@dataclass(slots=True, kw_only=True)
class CommentRecord:
    """A comment below a pull request."""

    id: int
    repository: str
    number: int
    body: str
    created_at: str


@dataclass(slots=True, kw_only=True)
class CheckRecord:
    """A check of a commit. `conclusion` is empty until it is completed."""

    id: int
    repository: str
    head_sha: str
    name: str
    status: str
    conclusion: str | None
    external_id: str
    title: str
    summary: str
    created_at: str


@dataclass(slots=True)
class Records:
    """All of them, and the file where they outlive the process."""

    file: Path
    pulls: list[PullRecord] = field(default_factory=list)
    comments: list[CommentRecord] = field(default_factory=list)
    checks: list[CheckRecord] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Records":
        """Return what `file` holds, or nothing if there is no such file."""
        if not file.exists():
            return cls(file)
        kept = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            file,
            pulls=[PullRecord(**row) for row in kept["pulls"]],
            comments=[CommentRecord(**row) for row in kept["comments"]],
            checks=[CheckRecord(**row) for row in kept["checks"]],
        )

    def save(self) -> None:
        """Write the file, whole or not at all."""
        kept = {
            "pulls": [asdict(row) for row in self.pulls],
            "comments": [asdict(row) for row in self.comments],
            "checks": [asdict(row) for row in self.checks],
        }
        half = self.file.with_suffix(".new")
        half.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        half.replace(self.file)

    def next_number(self, repository: str) -> int:
        """Return the next number for a pull request."""
        return 1 + max((p.number for p in self.pulls if p.repository == repository), default=0)

    def next_id(self) -> int:
        """Return an id that no comment and no check has."""
        taken = [row.id for row in self.comments] + [row.id for row in self.checks]
        return 1 + max(taken, default=0)

    def find_pull(self, repository: str, number: int) -> PullRecord | None:
        """Return the pull request of this number."""
        for row in self.pulls:
            if (row.repository, row.number) == (repository, number):
                return row
        return None

    def pulls_of(self, repository: str) -> list[PullRecord]:
        """Return the pull requests of a repository, newest first as GitHub lists them."""
        return [row for row in reversed(self.pulls) if row.repository == repository]

    def comments_of(self, repository: str, number: int) -> list[CommentRecord]:
        """Return the comments below a pull request, oldest first."""
        return [r for r in self.comments if (r.repository, r.number) == (repository, number)]

    def checks_of(self, repository: str, sha: str) -> list[CheckRecord]:
        """Return the checks of a commit, oldest first."""
        return [r for r in self.checks if (r.repository, r.head_sha) == (repository, sha)]
