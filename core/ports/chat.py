"""Port: our words out to one surface."""

from dataclasses import dataclass
from typing import Protocol

from core.card import Card
from core.ids import PersonId, ThreadId


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message as it should be seen.

    Attributes:
        card: The task's card as it is now; None for plain words.
        text: The whole message in plain words; of a card too.
        mention: Whom it addresses, who is notified by it.
    """

    text: str
    card: Card | None = None
    mention: PersonId | None = None


class Chat(Protocol):
    """One surface where threads live.

    Promises:

    1. `post` returns the surface's id of the message.
    2. `find` returns the id of the message that was posted under `key`, if there is one: after a
       crash it is asked before anything is posted again.
    3. `edit` of a message that is gone is no error.
    4. Only `OutsideError` kinds leave these methods.
    """

    async def post(self, thread: ThreadId, outgoing: Outgoing, *, key: str) -> str:
        """Say something new."""
        ...

    async def find(self, thread: ThreadId, *, key: str) -> str | None:
        """Look whether something was said already."""
        ...

    async def edit(self, thread: ThreadId, remote: str, outgoing: Outgoing) -> None:
        """Show something that was said anew."""
        ...
