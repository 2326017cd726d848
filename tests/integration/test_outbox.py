"""What we owe to a thread: posted once, shown anew, never lost."""

import pytest

from adapters.memory.chat import MemoryChat
from adapters.store.store import SqlStore
from adapters.store.work import SqlWork
from core.errors import RefusedError, UnavailableError
from core.ids import PersonId, ReplicaId, ThreadId
from core.message import Post
from core.ports.chat import Outgoing
from core.ports.store import Insert, Touch
from core.ports.work import Claim
from core.reconcile.outbox import OutboxReconciler
from tests.fakes.nouns import NOW, a_project, a_task

LANE = ThreadId("slack:c:1")
ME = ReplicaId("me")


def a_post(what: str, **values: object) -> Post:
    return Post(
        **{
            "key": f"{LANE}/end/{what}",
            "lane": LANE,
            "surface": "slack",
            "kind": "end",
            "state": "pending",
            "created_at": NOW,
            "text": what,
            "mention": PersonId("ana"),
            **values,
        }
    )


async def shown(post: Post) -> Outgoing:
    return Outgoing(text=post.text, mention=post.mention)


@pytest.fixture
def chat() -> MemoryChat:
    return MemoryChat()


@pytest.fixture
async def outbox(store: SqlStore, chat: MemoryChat) -> OutboxReconciler:
    await SqlWork(store.database).join(ME, url="", version="", lease_s=60)
    return OutboxReconciler(store=store, chats={"slack": chat}, render=shown)


async def claimed(store: SqlStore) -> Claim:
    (claim,) = await SqlWork(store.database).claim(ME, ["outbox"], limit=1)
    return claim


async def look(store: SqlStore, outbox: OutboxReconciler) -> None:
    claim = await claimed(store)
    try:
        await outbox(claim)
    finally:
        await SqlWork(store.database).give_back(claim, due_in_s=0)


async def test_a_lane_is_sent_in_order_and_each_post_once(
    store: SqlStore, chat: MemoryChat, outbox: OutboxReconciler
) -> None:
    await store.commit(*(Insert(a_post(name)) for name in ("a", "b", "c")))
    await look(store, outbox)
    await look(store, outbox)
    assert [message.text for message in chat.messages.values()] == ["a", "b", "c"]


async def test_a_post_whose_answer_was_lost_is_found_and_not_said_twice(
    store: SqlStore, chat: MemoryChat, outbox: OutboxReconciler
) -> None:
    await store.commit(Insert(a_post("a")))
    chat.lose_next = True
    with pytest.raises(UnavailableError):
        await look(store, outbox)
    await look(store, outbox)
    (post,) = await store.find(Post)
    assert (len(chat.messages), post.state) == (1, "sent")


async def test_a_refused_post_is_kept_with_its_reason_and_stops_no_other(
    store: SqlStore, chat: MemoryChat, outbox: OutboxReconciler
) -> None:
    await store.commit(Insert(a_post("a")), Insert(a_post("b")))
    chat.fail_next = RefusedError("Slack", "no such channel")
    await look(store, outbox)
    first, second = await store.find(Post)
    assert (first.state, first.error) == ("dead", "Slack: no such channel")
    assert second.state == "sent"


async def test_a_touched_card_is_shown_anew_in_place(
    store: SqlStore, chat: MemoryChat, outbox: OutboxReconciler
) -> None:
    task = a_task(thread=LANE)
    card = a_post("card", key=f"{LANE}/card/task", kind="card", task_id=task.id)
    await store.commit(Insert(a_project()), Insert(task), Insert(card))
    await look(store, outbox)
    await store.commit(Touch(task.id), Touch(task.id))
    await look(store, outbox)
    (post,) = await store.find(Post)
    assert (chat.edits, len(chat.messages)) == (1, 1)
    assert post.shown == post.wanted


async def test_a_surface_that_reads_the_records_is_owed_nothing_more(
    store: SqlStore, chat: MemoryChat, outbox: OutboxReconciler
) -> None:
    await store.commit(Insert(a_post("a", surface="web")))
    await look(store, outbox)
    (post,) = await store.find(Post)
    assert (post.state, chat.messages) == ("sent", {})
