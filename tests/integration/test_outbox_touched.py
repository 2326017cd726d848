"""A card that is touched while it is sent: shown again, and never a failure of its lane."""

from dataclasses import replace

from adapters.store.store import SqlStore
from core.message import Post
from core.ports.chat import Outgoing
from core.ports.store import Insert, Touch
from core.ports.work import Claim
from core.reconcile.outbox import OutboxReconciler
from tests.fakes.nouns import NOW, a_task


class BusyStore:
    """A store in which somebody touches the card before each write of the outbox."""

    def __init__(self, store: SqlStore, touches: int) -> None:
        self._store, self.left = store, touches
        self.get, self.find = store.get, store.find

    async def commit(self, *changes: object, claim: Claim | None = None) -> None:
        if self.left:
            self.left -= 1
            await self._store.commit(Touch(a_task().id))
        await self._store.commit(*changes)  # type: ignore[arg-type]


class Wall:
    """A surface that keeps what it shows."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def post(self, thread: str, outgoing: Outgoing, *, key: str) -> str:
        self.shown.append(outgoing.text)
        return "1"

    async def find(self, thread: str, *, key: str) -> str | None:
        return "1" if self.shown else None

    async def edit(self, thread: str, remote: str, outgoing: Outgoing) -> None:
        self.shown[0] = outgoing.text


async def test_a_card_that_is_touched_while_it_is_sent_is_sent_once_more(store: SqlStore) -> None:
    card = Post(
        key="t/card/task",
        lane=a_task().thread,
        surface="chat",
        kind="card",
        state="pending",
        created_at=NOW,
        task_id=a_task().id,
    )
    await store.commit(Insert(card))
    busy, wall = BusyStore(store, touches=6), Wall()

    async def render(post: Post) -> Outgoing:
        return Outgoing(text=f"card {post.wanted}")

    looks = OutboxReconciler(store=busy, chats={"chat": wall}, render=render)  # type: ignore[arg-type, dict-item]
    for _ in range(5):
        await looks(Claim(kind="outbox", key=card.lane, fence=1, signals=1, attempts=1))
    (found,) = await store.find(Post)
    wanted = 7
    assert found == replace(
        card, state="sent", wanted=wanted, shown=wanted, remote="1", version=found.version
    )
    assert wall.shown == [f"card {wanted}"]
