"""A project: one repository with its settings."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from core.ids import ProjectId

Size = Literal["small", "medium", "large"]
"""2 vCPU/4 GB, 4/8, 8/16."""
SIZES: dict[Size, tuple[float, int]] = {
    "small": (2, 4096),
    "medium": (4, 8192),
    "large": (8, 16384),
}
"""Virtual processors and mebibytes of memory of each size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoRef:
    """A repository on the code host: `acme/web`."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "RepoRef":
        """Read `owner/name`.

        Raises:
            ValueError: If it is not of that form.
        """
        owner, slash, name = text.partition("/")
        if not (owner and slash and name) or "/" in name:
            raise ValueError(f"{text!r} is not of the form owner/name")
        return cls(owner=owner, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One repository with its settings.

    Attributes:
        id: Short name, as people type it.
        repository: `owner/name` on the code host.
        branch: Base of every pull request; empty means the code host's default branch.
        checks: Shell commands that measure the result, in order.
        budget_usd: What the model may cost per run before a person is asked.
        devcontainer: Name of the configuration under `.devcontainer/`, empty for the default one.
        allow: What the devcontainer policy would refuse and this project allows, by finding code.
    """

    id: ProjectId
    repository: str
    branch: str = ""
    size: Size = "small"
    checks: tuple[str, ...] = ()
    budget_usd: Decimal = Decimal(3)
    devcontainer: str = ""
    allow: tuple[str, ...] = ()
    version: int = field(default=0)

    @property
    def repo(self) -> RepoRef:
        """The repository as the code host's port wants it."""
        return RepoRef.parse(self.repository)
