"""Words of ours to the coding agent. Pure."""

from core.ids import PersonId
from core.plan.draft import Draft
from core.plan.names import prompt_name
from core.ports.store import Insert, Wake
from core.session import Prompt

SYSTEM = PersonId("samovar")
"""Who speaks when nobody does."""


def instruct(draft: Draft, text: str, key: str) -> None:
    """Tell the coding agent something, once per key."""
    prompt = Prompt(
        id=prompt_name(key),
        task_id=draft.task.id,
        run_id=draft.run.id,
        by=SYSTEM,
        text=text,
        state="pending",
        created_at=draft.now,
    )
    draft.add(Insert(prompt, once=True), Wake("run", draft.run.id))
    draft.is_owed_a_turn = True
