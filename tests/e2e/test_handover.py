"""An agent's conversation in a person's terminal and back, with everything real."""

import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyte
import pytest

from adapters.local import process
from bot.client import Client
from bot.demo.script import prompt, say, step, use
from tests.fakes.screen import Screen, a_screen
from tests.fakes.served import Served, served
from tests.fakes.serving import until
from tests.fakes.world import HOLD, claude_processes, writing

pytestmark = [pytest.mark.docker, pytest.mark.claude, pytest.mark.timeout(400)]

PROGRAM = str(Path(sys.executable).parent / "samovar")


@pytest.fixture
async def samovar(tmp_path: Path) -> AsyncGenerator[Served]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
async def screen() -> AsyncGenerator[Screen]:
    async with a_screen() as opened:
        yield opened


def programs(folder: Path) -> list[str]:
    """Return how each program on a conversation was called, without what it starts itself."""
    found = {}
    for pid in claude_processes(folder):
        with suppress(OSError):
            above = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            found[pid] = (int(above), Path(f"/proc/{pid}/cmdline").read_bytes().decode())
    return [words for above, words in found.values() if above not in found]


async def start(samovar: Served, screen: Screen, *words: str) -> None:
    config = ("--config", str(samovar.folder / "config.toml"))
    await screen.start(
        *(PROGRAM, *config, *words),
        env={"SAMOVAR_STATE": str(samovar.stage.config.state)},
    )


def seen(screen: Screen) -> str:
    picture = pyte.Screen(100, 30)
    pyte.ByteStream(picture).feed(bytes(screen.shown))
    return re.sub(r"\s+", " ", "\n".join(picture.display))


async def sees(screen: Screen, text: str) -> None:
    try:
        await until(lambda: text in seen(screen), within_s=90)
    except AssertionError:
        raise AssertionError(f"{text!r} is not in {seen(screen)!r}") from None


async def held(samovar: Served) -> dict[str, Any]:
    """Ask for a task, and return its view once the agent stands in the middle of its turn."""
    steps = [
        *writing("before")[:1],
        step(use("Bash", command=HOLD)),
        step(say("So far so good.")),
        step(say("Really.")),
    ]
    task = await samovar.ask("Write it down", steps)
    await samovar.reached()
    return await samovar.get("tasks", task)


async def state(samovar: Served, task: str) -> str:
    view = await samovar.get("tasks", task)
    tabs = await samovar.get("workspaces", view["card"]["workspace_id"], "terminals")
    return str(tabs["terminals"][-1]["state"])


async def is_open(samovar: Served, task: str) -> bool:
    return await state(samovar, task) == "open"


async def returns(samovar: Served, task: str) -> int:
    """Return how often the agent was told that a person has given the conversation back."""
    lines = (await samovar.get("tasks", task))["lines"]
    return sum("A person worked with you in a terminal" in line["text"] for line in lines)


async def types(screen: Screen, words: str) -> None:
    """Type a line; what is typed while nobody is there is not sent, so once more until it shows.

    Control-U takes away what came late after all.
    """

    async def is_typed() -> bool:
        screen.type(b"\x15" + words.encode())
        with suppress(AssertionError):
            await until(lambda: words[:20] in seen(screen), within_s=5)
            return True
        return False

    await until(is_typed, within_s=90)
    screen.type(b"\r")


async def events(samovar: Served, view: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all that the task's agent said and did."""
    fresh = await samovar.get("tasks", view["card"]["task_id"])
    found = await samovar.get("sessions", fresh["runs"][-1]["session_id"], "events")
    return list(found["events"])


async def kill_agent(samovar: Served) -> None:
    [node] = samovar.stage.nodes
    pid = process.find(node)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: process.find(node) not in {None, pid})


async def kill_control_plane(samovar: Served) -> None:
    await samovar.kill()
    await samovar.start()


async def kill_both(samovar: Served) -> None:
    """Kill the node agent, and when there is another one the control plane."""
    await kill_agent(samovar)
    await kill_control_plane(samovar)


async def test_w7_g6_whoever_dies_a_person_goes_on_in_a_terminal_and_gives_it_back(
    samovar: Served, screen: Screen, tmp_path: Path
) -> None:
    view = await held(samovar)
    task = view["card"]["task_id"]
    await start(samovar, screen, "session", "open", task, "--wait")
    await screen.shows("Waiting until it is idle")
    assert await state(samovar, task) == "waiting"
    await kill_both(samovar)
    await samovar.go_on()
    await sees(screen, "Really.")
    await until(lambda: is_open(samovar, task))
    assert len(programs(tmp_path)) == 1, programs(tmp_path)
    card = (await samovar.get("tasks", task))["card"]
    assert card["holder"]["text"].startswith("in the terminal since")
    said = prompt("Also this", writing("chat"))
    await samovar.post("tasks", task, "replies", text=said)
    await kill_both(samovar)
    await types(screen, prompt("Typed here", [step(say("I hear you."))]))

    async def is_imported() -> bool:
        return any(e["data"].get("text") == "I hear you." for e in await events(samovar, view))

    await until(is_imported, within_s=90)
    view = await samovar.get("tasks", task)
    assert [line["receipt"] for line in view["lines"] if "Also this" in line["text"]] == [
        f"the agent is {card['holder']['text']}; sent when it comes back"
    ]
    assert len(programs(tmp_path)) == 1, programs(tmp_path)
    await types(screen, "/exit")
    assert await screen.ended() == 0
    await kill_control_plane(samovar)
    card = await samovar.ended(task)
    assert card["result"]["outcome"] == "pull_request", card
    told = await events(samovar, view)
    typed = [e["data"]["text"] for e in told if "terminal" in e["data"] and "text" in e["data"]]
    assert len(typed) == 1
    assert typed[0].startswith("Typed here")
    states = [e["data"]["state"] for e in told if e["kind"] == "session.state"]
    assert states.count("in_terminal") == 1
    last = json.dumps(list(samovar.stage.model.bodies[-1]["messages"]))  # type: ignore[call-overload]
    order = [last.index(words) for words in ("Write it down", "Typed here", "I hear", "Also this")]
    assert order == sorted(order)
    assert last.count("Typed here") == last.count("Also this") == 1, "none twice"


async def test_w11_neither_an_interrupt_nor_a_container_that_dies_loses_what_was_said(
    samovar: Served, screen: Screen, tmp_path: Path
) -> None:
    """Twice in one history: given back by a person, then by the death of all that runs."""
    view = await held(samovar)
    task = view["card"]["task_id"]
    said = prompt("Also this", [step(use("Bash", command=HOLD)), step(say("So far again."))])
    await samovar.post("tasks", task, "replies", text=said)

    async def is_queued() -> bool:
        told = await events(samovar, view)
        return any(e["data"].get("state") == "queued" for e in told if e["kind"] == "prompt.state")

    await until(is_queued)
    async with Client(samovar.stage.config.state / "api.sock") as client:
        session_id = view["runs"][-1]["session_id"]
        opened = await client.post("sessions", session_id, "terminal", body={"when": "now"})
        assert opened["state"] == "opening"
        await until(lambda: is_open(samovar, task))
        await until(lambda: programs(tmp_path))
        assert len(programs(tmp_path)) == 1, programs(tmp_path)
        await samovar.go_on()
        await client.delete("sessions", session_id, "terminal")
    await samovar.reached()
    await until(lambda: returns(samovar, task))
    await start(samovar, screen, "session", "open", task, "--now")
    await sees(screen, "Also this")
    await samovar.post("tasks", task, "replies", text=prompt("And that", writing("chat")))
    for container in await samovar.stage.containers():
        await samovar.stage.engine.client.containers.container(container).kill()
    card = await samovar.ended(task)
    assert card["result"]["outcome"] == "pull_request", card["result"]
    assert await screen.ended() == 1
    await sees(screen, "It has ended, and nobody knows how.")
    assert await returns(samovar, task) == 1
    last = json.dumps(list(samovar.stage.model.bodies[-1]["messages"]))  # type: ignore[call-overload]
    order = [last.index(words) for words in ("Write it down", "Also this", "And that")]
    assert order == sorted(order)
    assert last.count("Also this") == last.count("And that") == 1, "none twice"


async def test_a_shell_warns_who_starts_the_agents_conversation_by_hand(
    samovar: Served, screen: Screen
) -> None:
    view = await held(samovar)
    await start(samovar, screen, "attach", view["card"]["task_id"])
    await screen.shows("$")
    screen.type(b"claude --version\r")
    await screen.shows("(Claude Code)")
    screen.type(b"claude --continue\r")
    await sees(screen, f"the conversation {view['runs'][-1]['session_id']} is at work")
    await sees(screen, 'press "Open in terminal"')
    screen.type(b"exit 3\r")
    assert await screen.ended() == 3
    await samovar.go_on()
    card = await samovar.ended(view["card"]["task_id"])
    assert card["result"]["outcome"] == "pull_request", card["result"]
