"""What every command does first and last: may this person, is it there, write it."""

from collections.abc import Awaitable, Callable, Sequence

from bot import replies
from core.access import Person, Verb, may
from core.errors import ConflictError, ForbiddenError, NotFoundError
from core.ports.store import Change, N, Reader, Store

TRIES = 5
"""How often a write is decided anew when somebody else wrote first."""


def check(actor: Person, verb: Verb) -> None:
    """Raise `ForbiddenError` unless the person may."""
    if not may(actor, verb):
        raise ForbiddenError(replies.not_allowed(verb))


async def existing(reader: Reader, kind: type[N], key: str, thing: str) -> N:
    """Return a row, or say in people's words that there is none."""
    try:
        return await reader.get(kind, key)
    except NotFoundError:
        raise NotFoundError(replies.no_such(thing, key)) from None


async def write(store: Store, changes: Callable[[], Awaitable[Sequence[Change]]]) -> None:
    """Decide and write; decide again when somebody else wrote first."""
    for attempt in range(TRIES):
        decided = await changes()
        try:
            if decided:
                await store.commit(*decided)
        except ConflictError:
            if attempt == TRIES - 1:
                raise
        else:
            return
