"""What workspace tokens stand for: the model's budget and the branches that may be pushed."""

from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from bot.people import fingerprint
from core.clocks import Clock
from core.decision import Decision, DecisionState
from core.errors import ConflictError
from core.ids import DecisionId, RunId
from core.ports.grants import Grant, ModelCall
from core.ports.store import Insert, Store, Update, Wake
from core.project import Project
from core.run import Run
from core.session import AgentSession, SessionState
from core.workspace import Workspace, WorkspaceState

MICROS = 1_000_000
_AT_WORK = (WorkspaceState.READY, WorkspaceState.BUILDING)
"""A workspace is made sure of anew for each run of its task; chats in it work on meanwhile."""
_ALIVE = tuple(state for state in SessionState if state is not SessionState.ENDED)
TRIES = 5
"""How often a question is written anew when the run was written meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrants:
    """See `core.ports.grants.Grants`."""

    store: Store
    clock: Clock

    async def grant(self, token: str, *, session: str = "") -> Grant | None:
        """See `Grants.grant`. A workspace without a run has nothing to spend."""
        found = await self.store.find(Workspace, token_hash=fingerprint(token), state=_AT_WORK)
        run_id = await self._run(found[0], session) if found else None
        if run_id is None:
            return None
        workspace = found[0]
        run = await self.store.get(Run, run_id)
        project = await self.store.get(Project, workspace.project)
        spent = (await self.store.spent(run_id)).get(run_id, 0)
        return Grant(
            workspace_id=workspace.id,
            task_id=run.task_id,
            run_id=run_id,
            repository=project.repo,
            branches=f"samovar/{workspace.task_id}-",
            models=None,
            budget_usd=run.budget_usd,
            spent_usd=Decimal(spent) / MICROS,
        )

    async def _run(self, workspace: Workspace, session: str) -> RunId | None:
        """Return the run whose coding agent asks, else the one that the workspace is claimed by."""
        if session:
            asking = await self.store.find(
                AgentSession, id=session, workspace_id=workspace.id, state=_ALIVE
            )
            if asking:
                return asking[0].run_id
        return workspace.run_id

    async def book(self, grant: Grant, call: ModelCall) -> None:
        """See `Grants.book`. Rounded up to a millionth of a dollar."""
        micros = int((call.cost_usd * MICROS).to_integral_value(ROUND_CEILING))
        await self.store.book(grant.run_id, call.model, usd_micros=micros, tokens=dict(call.tokens))

    async def exhausted(self, grant: Grant) -> None:
        """See `Grants.exhausted`."""
        for _ in range(TRIES):
            with suppress(ConflictError):  # The run went on, or two calls were refused at once.
                await self._ask(grant)
                return

    async def _ask(self, grant: Grant) -> None:
        run = await self.store.get(Run, grant.run_id)
        asked = await self.store.find(Decision, run_id=grant.run_id, kind="budget")
        if run.is_over or any(decision.state is DecisionState.OPEN for decision in asked):
            return
        now = self.clock.now()
        decision = Decision(
            id=DecisionId(f"{grant.run_id}:budget:{len(asked) + 1}"),
            task_id=grant.task_id,
            run_id=grant.run_id,
            kind="budget",
            title=f"The budget of ${grant.budget_usd:.2f} is used up. Go on with as much again?",
            detail="No publishes what there is." if run.chat_in is None else "No ends the chat.",
            state=DecisionState.OPEN,
            state_since=now,
            created_at=now,
        )
        # The run is written too: it must not end between our look and our question.
        await self.store.commit(Insert(decision), Update(run), Wake("run", run.id))
