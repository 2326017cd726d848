"""What we owe to threads: a lane each, in order, never lost, never twice if it can be seen."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from core.errors import ConflictError, RefusedError
from core.message import Post
from core.ports.chat import Chat, Outgoing
from core.ports.store import Store, Update
from core.ports.work import Claim

OWED = ("pending", "sending")
TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxReconciler:
    """Sends what a lane owes.

    Attributes:
        chats: By surface. A surface that reads our records by itself has none: there, what is
            written is what is seen.
        render: A post as it should be seen now.
    """

    store: Store
    chats: Mapping[str, Chat]
    render: Callable[[Post], Awaitable[Outgoing]]

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one lane."""
        for post in await self.store.find(Post, lane=claim.key, state=OWED):
            await self._send(post, claim)
        return None

    async def _send(self, post: Post, claim: Claim) -> None:
        chat = self.chats.get(post.surface)
        if chat is None:
            await self._write(post, lambda now: _shown(now, now.wanted), claim)
            return
        may_be_there = post.state == "sending" and not post.remote
        if post.state == "pending":
            post = await self._write(post, lambda now: replace(now, state="sending"), claim)
        outgoing = await self.render(post)
        try:
            remote = post.remote
            if may_be_there:
                remote = await chat.find(post.lane, key=post.key) or ""
            if remote:
                await chat.edit(post.lane, remote, outgoing)
            else:
                remote = await chat.post(post.lane, outgoing, key=post.key)
        except RefusedError as error:
            said = str(error)
            await self._write(post, lambda now: replace(now, state="dead", error=said), claim)
            return
        shown = post.wanted
        await self._write(post, lambda now: replace(_shown(now, shown), remote=remote), claim)

    async def _write(self, post: Post, then: Callable[[Post], Post], claim: Claim) -> Post:
        """Write the post's next value, decided anew when it was touched meanwhile.

        A card of a busy run is touched many times a second: that is no failure of its lane.
        """
        for _ in range(TRIES):
            new = then(post)
            try:
                await self.store.commit(Update(new), claim=claim)
            except ConflictError:
                post = await self.store.get(Post, post.key)
            else:
                return replace(new, version=new.version + 1)
        raise ConflictError(f"{post.key} is touched all the time")


def _shown(post: Post, number: int) -> Post:
    """Return the post once `number` is shown: it is owed again if it was touched since."""
    return replace(post, state="sent" if post.wanted == number else "pending", shown=number)
