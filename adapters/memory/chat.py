"""A chat in a list."""

from dataclasses import dataclass, field

from core.errors import RefusedError, UnavailableError
from core.ids import ThreadId
from core.ports.chat import Outgoing


@dataclass(slots=True)
class MemoryChat:
    """See `Chat`.

    Attributes:
        messages: What people see, by the id of the message.
        keys: The ids of the messages by thread and key.
        fail_next: Raised by the next call, which then does nothing.
        lose_next: The next post is done and its answer lost.
        edits: How often something was shown anew.
    """

    messages: dict[str, Outgoing] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    fail_next: UnavailableError | RefusedError | None = None
    lose_next: bool = False
    edits: int = 0

    async def post(self, thread: ThreadId, outgoing: Outgoing, *, key: str) -> str:
        """See `Chat.post`. With `lose_next` it is done and the answer lost."""
        self._fail()
        remote = f"m{len(self.messages) + 1}"
        self.messages[remote] = outgoing
        self.keys[thread, key] = remote
        if self.lose_next:
            self.lose_next = False
            raise UnavailableError("Chat", "the answer was lost")
        return remote

    async def find(self, thread: ThreadId, *, key: str) -> str | None:
        """See `Chat.find`."""
        self._fail()
        return self.keys.get((thread, key))

    async def edit(self, thread: ThreadId, remote: str, outgoing: Outgoing) -> None:  # noqa: ARG002
        """See `Chat.edit`."""
        self._fail()
        self.edits += 1
        if remote in self.messages:
            self.messages[remote] = outgoing

    def _fail(self) -> None:
        error, self.fail_next = self.fail_next, None
        if error is not None:
            raise error
