"""The scripted model as the vendor's own client and strict types see it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import anthropic
import httpx2
import pydantic
import pytest
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.demo.frames import frames, message
from bot.demo.improvise import COMPLETE, Recipe
from bot.demo.model import ScriptedModel, key_sha256
from bot.demo.script import Step, prompt, say, step, think, use

EVENT: pydantic.TypeAdapter[RawMessageStreamEvent] = pydantic.TypeAdapter(RawMessageStreamEvent)
SCRIPT = [
    step(think("Hm."), say("Hello there, you", chunks=3), use("Bash", command="ls", n=[1, "é"])),
    step(say("")),
    step(usage={"output_tokens": 5, "cache_creation_input_tokens": 9}),
]


def unknown_fields(value: object, path: str = "") -> Iterator[str]:
    """The vendor's types let any field pass; a fake that sends one is a fake of something else."""
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from unknown_fields(one, path)


def check(read: object) -> None:
    assert list(unknown_fields(read)) == []


blocks = st.one_of(
    st.builds(say, st.text(), chunks=st.integers(1, 9)),
    st.builds(think, st.text()),
    st.builds(use, st.text(min_size=1), command=st.text(), n=st.lists(st.integers())),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(blocks, max_size=4))
def test_every_frame_is_one_that_the_vendor_knows_and_they_add_up(blocks: list[Any]) -> None:
    one = step(*blocks)
    whole = message(one, message_id="msg_1", model="claude-opus-5-5", asked_bytes=4000)
    check(Message.model_validate(json.loads(json.dumps(whole)), strict=True))
    texts = [""] * len(blocks)
    for frame in frames(one, whole):
        data = json.loads(frame.encode().split(b"data: ", 1)[1])
        check(EVENT.validate_python(data, strict=True))
        if data["type"] == "content_block_delta":
            delta = {k: v for k, v in data["delta"].items() if k not in {"type", "signature"}}
            texts[data["index"]] += "".join(delta.values())
    for block, content, text in zip(one.blocks, whole["content"], texts, strict=True):
        said = json.loads(text or "{}") if content["type"] == "tool_use" else text
        assert said in [content.get(key) for key in ("text", "thinking", "input")], block


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel(keys=frozenset({"k"})) as model:
        yield model


@pytest.fixture
async def client(model: ScriptedModel) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=model.url, max_retries=0, timeout=60
    ) as client:
        yield client


def ask(text: str, *answers: str, tools: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """Return a request in which `text` was said and the model has given `answers` since."""
    messages = [{"role": "user", "content": text}]
    for answer in answers:
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": ""}]
    forms = [{"name": name, "input_schema": {"type": "object"}} for name in tools]
    body = {"model": "claude-opus-5-5", "max_tokens": 99, "messages": messages, "tools": forms}
    return body | more


async def test_the_vendors_client_reads_a_whole_answer_and_a_stream(
    model: ScriptedModel, client: anthropic.AsyncAnthropic
) -> None:
    asked = ask(prompt("hi", SCRIPT))
    whole = await client.messages.create(**asked)
    async with client.messages.stream(**asked) as stream:
        streamed = await stream.get_final_message()
    check(whole)
    kinds = [block.type for block in whole.content]
    assert kinds == [block.type for block in streamed.content] == ["thinking", "text", "tool_use"]
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert whole.usage.output_tokens == streamed.usage.output_tokens
    count = await client.messages.count_tokens(
        model="claude-opus-5-5", messages=[{"role": "user", "content": "x"}]
    )
    assert count.input_tokens > 0
    models = await client.models.list()
    check(ModelInfo.model_validate(models.data[0].model_dump()))
    assert {asked.key_sha256 for asked in model.requests} == {key_sha256("k")}
    assert "k" not in {value for asked in model.requests for value in asked.headers.values()}


async def test_the_step_is_the_number_of_answers_since_the_prompt(
    model: ScriptedModel, client: anthropic.AsyncAnthropic
) -> None:
    text = prompt("hi", [step(say("one")), step(say("two"))])
    heard = []
    for answers in ([], ["one"], ["one", "two"]):
        whole = await client.messages.create(**ask(text, *answers))
        heard.append(whole.content[0].text)
    assert heard == ["one", "two", "Done."]
    assert [asked.step for asked in model.requests] == [0, 1, 2]


async def test_a_prompt_that_came_while_the_model_worked_starts_its_own_script(
    client: anthropic.AsyncAnthropic,
) -> None:
    asked = ask(prompt("hi", [step(say("one")), step(say("two"))]), "one")
    steering = prompt("stop", [step(say("steered"))])
    text = f"The user sent a new message while you were working:\n{steering}\n\nThis is how Cl"
    asked["messages"].append({"role": "system", "content": text})
    assert (await client.messages.create(**asked)).content[0].text == "steered"


async def test_a_status_heals_after_its_times_in_each_conversation(
    client: anthropic.AsyncAnthropic,
) -> None:
    asked = ask(
        prompt("hi", [step(say("ok"), status=529, times=2, error="overloaded_error", message="m")])
    )
    for session in ("s-1", "s-2"):
        headers = {"x-claude-code-session-id": session}
        for _ in range(2):
            with pytest.raises(anthropic.InternalServerError, match="m"):
                await client.messages.create(**asked, extra_headers=headers)
        whole = await client.messages.create(**asked, extra_headers=headers)
        assert whole.content[0].text == "ok"


async def test_a_cut_drops_the_connection_and_a_stall_keeps_it(
    model: ScriptedModel, client: anthropic.AsyncAnthropic
) -> None:
    for bad in (step(say("abc", chunks=3), cut_after=2), step(say("abc"), cut_after=0)):
        with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)):
            async with client.messages.stream(**ask(prompt("hi", [bad]))) as stream:
                await stream.get_final_message()
    stalled = ask(prompt("hi", [step(say("abc", chunks=3), stall_after=2)]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), client.messages.stream(**stalled) as stream:
            await stream.get_final_message()


async def test_the_lever_outdoes_every_prompt(
    model: ScriptedModel, client: anthropic.AsyncAnthropic
) -> None:
    model.always = step(status=500, message="all is lost")
    with pytest.raises(anthropic.InternalServerError, match="all is lost"):
        await client.messages.create(**ask(prompt("hi", SCRIPT)))
    model.always = None
    await client.messages.create(**ask(prompt("hi", SCRIPT)))


async def test_a_wrong_key_and_a_broken_script_are_told(model: ScriptedModel) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{model.url}/v1/messages"
        async with http.post(url, json=ask("hi")) as answer:
            assert answer.status == 401
        for text in ("<<[1]>>", "<<[{]>>", '<<[{"sya": "x"}]>>', '<<[{"blocks": [{}]}]>>'):
            headers = {"x-api-key": "k"}
            async with http.post(url, json=ask(text), headers=headers) as answer:
                assert answer.status == 400, text
        for body in (b"", b"[]", b'{"messages": 1}', b'{"messages": [1]}'):
            async with http.post(url, data=body, headers=headers) as answer:
                assert answer.status == 400, body
        async with http.head(f"{model.url}/") as answer:
            assert answer.status == 200


TOOLS = ("Bash", "AskUserQuestion", COMPLETE)


async def played(client: anthropic.AsyncAnthropic, text: str, result: str = "ok") -> list[Message]:
    """Let the model work until it stops using tools."""
    asked, heard = ask(text, tools=TOOLS), []
    for _ in range(9):
        heard.append(await client.messages.create(**asked))
        calls = [block for block in heard[-1].content if block.type == "tool_use"]
        if not calls:
            break
        results = [{"type": "tool_result", "tool_use_id": c.id, "content": result} for c in calls]
        asked["messages"] += [
            {"role": "assistant", "content": [b.model_dump() for b in heard[-1].content]},
            {"role": "user", "content": results},
        ]
    return heard


def calls(heard: list[Message]) -> list[str]:
    return [block.name for one in heard for block in one.content if block.type == "tool_use"]


async def test_any_task_becomes_a_note_a_commit_and_a_confession(
    client: anthropic.AsyncAnthropic,
) -> None:
    hostile = "Tea '; rm -rf / #\n$(reboot) `x` <!channel> \x1b[2J"
    heard = await played(client, hostile)
    assert calls(heard) == ["Bash", "Bash", COMPLETE]
    write = heard[1].content[-1].input["command"]
    assert "\n" not in write
    assert "\x1b" not in write
    assert "ANTHROPIC_API_KEY" in heard[-1].content[-1].text


async def test_the_note_says_what_was_asked_whatever_it_is(
    client: anthropic.AsyncAnthropic, tmp_path: Any
) -> None:
    heard = await played(client, 'Tea \'; rm -rf / #\n$(echo no) `x` "y" \\n %s')
    command = heard[1].content[-1].input["command"].split(" && ")[0]
    shell = await asyncio.create_subprocess_exec("sh", "-c", command, cwd=tmp_path)
    assert await shell.wait() == 0
    note = (tmp_path / "NOTES.md").read_text()
    assert note == '- Tea \'; rm -rf / # $(echo no) `x` "y" \\n %s\n'


async def test_a_question_gets_an_answer_and_no_commit(client: anthropic.AsyncAnthropic) -> None:
    assert calls(await played(client, "What does this project do?")) == []


async def test_ask_me_asks_and_the_answer_is_used(client: anthropic.AsyncAnthropic) -> None:
    result = 'Your questions have been answered: "Where shall I write it down?"="TODO.md".'
    heard = await played(client, "Ask me where to note that tea is good", result)
    assert calls(heard)[:2] == ["AskUserQuestion", "Bash"]
    assert "TODO.md" in heard[2].content[-1].input["command"]


async def test_a_tool_that_failed_is_not_called_a_success(client: anthropic.AsyncAnthropic) -> None:
    asked = ask("Note it", tools=TOOLS)
    first = await client.messages.create(**asked)
    call = next(block for block in first.content if block.type == "tool_use")
    failed = {"type": "tool_result", "tool_use_id": call.id, "content": "no", "is_error": True}
    asked["messages"] += [
        {"role": "assistant", "content": [block.model_dump() for block in first.content]},
        {"role": "user", "content": [failed]},
    ]
    second = await client.messages.create(**asked)
    assert second.stop_reason == "end_turn"
    assert "did not work" in second.content[0].text


async def test_a_recipe_is_played_after_a_look_around() -> None:
    steps = (step(use("Bash", command="sed -i s/1/2/ a.py")), step(say("Fixed.")))
    async with (
        ScriptedModel(recipes=[Recipe(match=r"fix .* rounding", steps=steps)]) as model,
        anthropic.AsyncAnthropic(api_key="k", base_url=model.url, max_retries=0) as client,
    ):
        heard = await played(client, "Please FIX the rounding in cart totals")
    assert calls(heard) == ["Bash", "Bash"]
    assert heard[-1].content[0].text == "Fixed."


async def test_a_turn_that_broke_off_goes_on_with_its_script(
    client: anthropic.AsyncAnthropic,
) -> None:
    asked = ask(prompt("Do both", [step(say("One.")), step(say("Two."))]), "One.")
    asked["messages"][-1]["content"] = "continue"
    whole = await client.messages.create(**asked)
    assert whole.content[0].text == "Two."


async def test_a_hook_that_wants_the_task_completed_is_obeyed_once(
    client: anthropic.AsyncAnthropic,
) -> None:
    asked = ask("Why?", "Because.", tools=TOOLS)
    asked["messages"][-1]["content"] = "Stop hook feedback:\nYou must call complete_task first."
    whole = await client.messages.create(**asked)
    assert calls([whole]) == [COMPLETE]
    asked["messages"] += [
        {"role": "assistant", "content": [block.model_dump() for block in whole.content]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": whole.content[0].id, "content": "noted"}
            ],
        },
    ]
    assert calls([await client.messages.create(**asked)]) == []


async def test_calls_without_tools_get_a_fitting_answer(client: anthropic.AsyncAnthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "isNewTopic": {"type": "boolean"}},
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    whole = await client.messages.create(**ask("Fix the cart", output_config=form))
    assert json.loads(whole.content[0].text) == {"title": "Fix the cart", "isNewTopic": True}
    told = await client.messages.create(**ask("Fix the cart", system="Answer in JSON."))
    assert json.loads(told.content[0].text)["title"] == "Fix the cart"
    plain = await client.messages.create(**ask("Fix the cart"))
    assert plain.content[0].text == "Fix the cart"


async def test_a_forced_tool_is_filled_by_its_schema(client: anthropic.AsyncAnthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["task", "question"]}, "title": {"type": "string"}},
    }
    tools = [{"name": "read_message", "input_schema": schema}]
    asked = ask("Fix the cart", tool_choice={"type": "tool", "name": "read_message"})
    whole = await client.messages.create(**asked | {"tools": tools})
    assert whole.content[0].input == {"kind": "task", "title": "Fix the cart"}


def test_scripts_stay_readable() -> None:
    text = prompt("hi", [step(say("x")), step(status=402)])
    assert '"ttfb_s"' not in text
    assert Step().blocks == ()
