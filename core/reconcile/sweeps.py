"""What is looked at from time to time: open questions that people forgot, and old records."""

from dataclasses import dataclass, replace
from datetime import timedelta

from core.clocks import Clock, Clocks
from core.decision import Decision, DecisionState
from core.ids import ThreadId
from core.message import Post, Thread
from core.ports.store import Change, Insert, Store, Update
from core.ports.work import Claim
from core.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ReminderReconciler:
    """Reminds people of questions that wait. Nothing is ever answered by a timer."""

    store: Store
    clock: Clock
    clocks: Clocks

    async def __call__(self, claim: Claim) -> float | None:
        """Look at all open decisions."""
        now = self.clock.now()
        for decision in await self.store.find(Decision, state=DecisionState.OPEN):
            sent, since = decision.reminders, decision.delivered_at
            if since is None or sent >= len(self.clocks.reminders_s):
                continue
            if now - since >= timedelta(seconds=self.clocks.reminders_s[sent]):
                await self._remind(decision, claim)
        return None

    async def _remind(self, decision: Decision, claim: Claim) -> None:
        task = await self.store.get(Task, decision.task_id)
        thread = await self.store.get(Thread, task.thread)
        number = decision.reminders + 1
        post = Post(
            key=f"{thread.id}/question/{decision.id}/{number}",
            lane=ThreadId(thread.id),
            surface=thread.surface,
            kind="question",
            state="pending",
            created_at=self.clock.now(),
            task_id=task.id,
            text=f"Still waiting for your answer: {decision.title}",
            mention=task.asked_by,
        )
        changes: list[Change] = [
            Insert(post, once=True),
            Update(replace(decision, reminders=number)),
        ]
        await self.store.commit(*changes, claim=claim)
