"""A conversation that goes from the coding agent to a person's terminal and back."""

import asyncio
import re
import signal
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pyte
import pytest

from agent.claude.driver import ClaudeDriver
from bot.demo.model import ScriptedModel
from bot.demo.script import say, step
from core.ids import TerminalId
from tests.fakes.agent_session import DONE, Bench, new_prompt, running, script
from tests.fakes.screen import Screen, a_screen
from tests.fakes.serving import until
from tests.fakes.session_fixtures import Looks

pytestmark = pytest.mark.claude

SLOW = say("x" * 400, chunks=400, delay_s=0.05)


def seen(screen: Screen) -> str:
    """Return what a person sees now, without the spaces that the program moves over."""
    picture = pyte.Screen(100, 30)
    pyte.ByteStream(picture).feed(bytes(screen.shown))
    return re.sub(r"\s+", " ", "\n".join(picture.display))


async def sees(screen: Screen, text: str) -> None:
    try:
        await until(lambda: text in seen(screen))
    except AssertionError:
        raise AssertionError(f"{text!r} is not in {seen(screen)!r}") from None


@asynccontextmanager
async def terminal(bench: Bench, driver: ClaudeDriver) -> AsyncGenerator[Screen]:
    """Run what the driver says in a PTY, as a terminal would."""
    program = driver.program()
    async with a_screen() as screen:
        inside = ("sh", "-c", 'cd "$0" && exec "$@"', str(bench.root / "work"))
        await screen.start(*inside, *program.command, env=program.env)
        yield screen


async def say_there(screen: Screen, bench: Bench, words: str, answer: str) -> None:
    """Type a prompt whose script answers with one text, and wait for the answer's event."""
    screen.type(script(words, step(say(answer))).encode())
    await sees(screen, words)
    screen.type(b"\r")
    await bench.until(lambda: answer in texts(bench))


async def leave(screen: Screen) -> None:
    screen.type(b"/exit")
    await sees(screen, "/exit")
    screen.type(b"\r")
    assert await screen.ended() == 0


def programs(bench: Bench) -> list[str]:
    """Return how each living program on the conversation was called, without what it starts."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode()
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if words.startswith(bench.claude) and bench.session in words:
                found[int(folder.name)] = (above, words)
    return [words for above, words in found.values() if above not in found]


def transcript(bench: Bench) -> str:
    """Return what Claude Code itself has written down of the conversation."""
    [path] = bench.root.glob(f"claude/projects/*/{bench.session}.jsonl")
    return path.read_text()


def texts(bench: Bench) -> list[str]:
    return [event["text"] for event in bench.of("message.text")]


def said(body: dict[str, Any]) -> str:
    return str(body["messages"])


async def test_g6_a_conversation_goes_to_a_terminal_and_back_twice(
    bench: Bench, model: ScriptedModel
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("one", step(say("first answer"), DONE)))
        await bench.turns(1)
        for number in (1, 2):
            name = TerminalId(f"t-{number}")
            await driver.hand_over(name)
            assert bench.of("session.state")[-1] == {
                "state": "in_terminal",
                "reason": "",
                "terminal": name,
            }
            assert (bench.box / "terminal").read_text() == name
            async with terminal(bench, driver) as screen:
                await sees(screen, "first answer")
                assert len(programs(bench)) == 1, "G6"
                await say_there(screen, bench, f"typed {number}", f"typed answer {number}")
                await leave(screen)
            await driver.take_back(name)
            await driver.prompt(
                new_prompt(), script(f"chat {number}", step(say(f"chat answer {number}"), DONE))
            )
            await bench.turns(1 + number)
            assert (bench.box / "terminal").read_text() == ""
        await driver.stop()
    last = said(model.bodies[-1])
    for words in ("first answer", *(f"{w} answer {n}" for w in ("typed", "chat") for n in (1, 2))):
        if words != "chat answer 2":
            assert last.count(f"'{words}'") == 1, words
    typed = [event for event in bench.of("message.user") if "terminal" in event]
    assert [event["terminal"] for event in typed] == ["t-1", "t-2"]
    assert [event["text"].split("\n")[0][:7] for event in typed] == ["typed 1", "typed 2"]
    answers = [text for text in texts(bench) if "answer" in text]
    assert answers == ["first answer", "typed answer 1", "chat answer 1", "typed answer 2",
                       "chat answer 2"]  # fmt: skip
    assert bench.journal.repeated == 0


async def test_w7_the_node_agent_may_go_at_each_step_and_the_conversation_has_one_owner(
    bench: Bench, model: ScriptedModel
) -> None:
    name = TerminalId("t-1")
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("one", step(say("first answer"), DONE)))
        await bench.turns(1)
        await _gone_once_noted(bench, "t-1", driver.hand_over(name))
    async with running(bench.driver()) as driver:
        await driver.started()
        await driver.hand_over(name)
    async with terminal(bench, driver) as screen:  # Nobody looks while the person goes on.
        await sees(screen, "first answer")
        screen.type(script("typed", step(say("typed answer"))).encode())
        await sees(screen, "typed")
        screen.type(b"\r")
        await until(lambda: transcript(bench).count('"text":"typed answer"') == 1)
        await leave(screen)
    async with running(bench.driver()) as driver:
        await bench.until(lambda: "typed answer" in texts(bench))
        assert programs(bench) == []
        await _gone_once_noted(bench, "", driver.take_back(name))
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("two", step(say("second answer"), DONE)))
        await bench.turns(2)
        assert len(programs(bench)) == 1, "G6"
        await driver.stop()
    phases = [event["state"] for event in bench.of("session.state")]
    assert [phases.count(one) for one in ("in_terminal", "starting", "ended")] == [1, 2, 1]
    assert [text for text in texts(bench) if "answer" in text] == [
        *("first answer", "typed answer", "second answer"),
    ]
    assert bench.journal.repeated == 0
    assert said(model.bodies[-1]).count("'typed answer'") == 1


async def _gone_once_noted(bench: Bench, lease: str, order: Coroutine[Any, Any, None]) -> None:
    """Carry out an order up to where it is written down, and no further."""
    carrying = asyncio.create_task(order)

    async def is_noted() -> bool:
        return (await bench.journal.notes(bench.session)).get("lease") == lease

    await until(is_noted)
    carrying.cancel()
    await asyncio.wait({carrying})


async def test_w11_a_terminal_that_is_killed_in_mid_turn_gives_the_conversation_back(
    bench: Bench, model: ScriptedModel
) -> None:
    name = TerminalId("t-1")
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("one", step(SLOW)))
        await bench.until(lambda: bench.deltas)
        waiting = new_prompt()
        await driver.prompt(waiting, script("waits", step(DONE)))
        await bench.until(lambda: bench.of("prompt.state")[-1]["prompt"] == waiting)
        await driver.hand_over(name)
        assert bench.of("turn.end")[-1]["code"] == "interrupted"
        async with terminal(bench, driver) as screen:
            await sees(screen, "one")
            screen.type(script("typed", step(say("y" * 200, chunks=50, delay_s=0.1))).encode())
            await sees(screen, "typed")
            screen.type(b"\r")
            await bench.until(lambda: any("terminal" in e for e in bench.of("message.user")))
            await driver.take_back(name)
            assert await screen.ended() == -signal.SIGKILL
        await driver.prompt(new_prompt(), script("two", step(say("second answer"), DONE)))
        await bench.until(lambda: "second answer" in texts(bench))
        await bench.until(lambda: any(waiting in end["prompts"] for end in bench.of("turn.end")))
        assert len(programs(bench)) == 1, "G6"
        await driver.stop()
    states = [p["state"] for p in bench.of("prompt.state") if p["prompt"] == waiting]
    assert (states[0], "cancelled" in states) == ("queued", False)
    for words in ("typed <<", "waits <<"):
        assert said(model.bodies[-1]).count(words) == 1, words


async def test_a_terminal_that_clears_its_conversation_is_told_of_and_ended_by_a_stop(
    bench: Bench, looks: Looks
) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("one", step(say("first answer"), DONE)))
        await bench.turns(1)
        await driver.hand_over(TerminalId("t-1"))
        async with terminal(bench, driver) as screen:
            await sees(screen, "first answer")
            await bench.until(lambda: looks.saw(bench.session))
            screen.type(b"/clear")
            await sees(screen, "/clear")
            screen.type(b"\r")
            await bench.until(lambda: bench.of("notice"))
            await driver.stop()
            assert await screen.ended() == -signal.SIGKILL
    assert [notice["code"] for notice in bench.of("notice")] == ["conversation_left"]
    assert bench.phase() == "ended"
    assert (bench.box / "terminal").read_text() == ""


async def test_who_goes_past_the_lease_is_told_of_once(bench: Bench) -> None:
    async with running(bench.driver()) as driver:
        await driver.prompt(new_prompt(), script("one", step(say("first answer"), DONE)))
        await bench.turns(1)
        async with terminal(bench, driver) as screen:
            await sees(screen, "first answer")
            await bench.until(lambda: bench.of("notice"))
            await driver.prompt(new_prompt(), script("two", step(say("second answer"), DONE)))
            await bench.turns(2)
            await leave(screen)
        await driver.stop()
    assert [notice["code"] for notice in bench.of("notice")] == ["opened_by_hand"]
