import pytest

from adapters.memory.chat import MemoryChat
from core.errors import OutsideError, RefusedError, UnavailableError
from core.ids import ThreadId
from core.ports.chat import Outgoing

THREAD = ThreadId("slack:c:1")


@pytest.fixture(params=[MemoryChat])
def chat(request: pytest.FixtureRequest) -> MemoryChat:
    return request.param()


async def test_1_a_post_is_known_by_its_id(chat: MemoryChat) -> None:
    remote = await chat.post(THREAD, Outgoing(text="Hello"), key="k")
    assert chat.messages[remote].text == "Hello"


async def test_2_what_was_posted_is_found_by_its_key_also_when_the_answer_was_lost(
    chat: MemoryChat,
) -> None:
    assert await chat.find(THREAD, key="k") is None
    chat.lose_next = True
    with pytest.raises(UnavailableError):
        await chat.post(THREAD, Outgoing(text="Hello"), key="k")
    assert await chat.find(THREAD, key="k") is not None
    assert await chat.find(ThreadId("slack:c:2"), key="k") is None


async def test_3_an_edit_of_a_message_that_is_gone_is_no_error(chat: MemoryChat) -> None:
    await chat.edit(THREAD, "gone", Outgoing(text="Hello"))
    assert chat.messages == {}


async def test_4_only_outside_errors_leave(chat: MemoryChat) -> None:
    chat.fail_next = RefusedError("Chat", "no such channel")
    with pytest.raises(OutsideError):
        await chat.post(THREAD, Outgoing(text="Hello"), key="k")
