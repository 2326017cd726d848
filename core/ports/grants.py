"""Port: what the bearer of a workspace token may use, and what it used."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from core.ids import RunId, TaskId, WorkspaceId
from core.project import RepoRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a workspace token stands for, as it is now.

    Attributes:
        branches: Prefix of the only branches that may be pushed, those of the workspace's task:
            `samovar/T-142-`.
        models: Models that may be asked; None means any that has a price.
        budget_usd: Cap of the run, raised by a person's answer.
        spent_usd: What the run's model calls cost so far.
    """

    workspace_id: WorkspaceId
    task_id: TaskId
    run_id: RunId
    repository: RepoRef
    branches: str
    models: frozenset[str] | None
    budget_usd: Decimal
    spent_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """What one answer of the model cost.

    Attributes:
        session: The coding agent's own session id, from its request header; may be empty.
        tokens: By kind, in the vendor's words: `input_tokens`, `output_tokens`,
            `cache_read_input_tokens`, `cache_creation_input_tokens`.
    """

    model: str
    session: str
    cost_usd: Decimal
    tokens: dict[str, int] = field(default_factory=dict)


class Grants(Protocol):
    """Who holds a workspace token and what they may still spend.

    Promises:

    1. `grant` returns None for a token that is unknown or revoked.
    2. `book` adds to the run's cost exactly what it was given, also past the budget.
    3. `exhausted` opens at most one budget decision per run until it is answered.
    4. Each coding agent spends its own run's budget: `session` says which one asks. One that is
       not of the token's workspace, or has ended, says nothing.
    """

    async def grant(self, token: str, *, session: str = "") -> Grant | None:
        """Return what `token` stands for now; without a session, for the workspace's own run."""
        ...

    async def book(self, grant: Grant, call: ModelCall) -> None:
        """Write down what an answer cost."""
        ...

    async def exhausted(self, grant: Grant) -> None:
        """Note that a call was refused because the budget is used up."""
        ...
