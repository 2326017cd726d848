"""`samovar task watch`: a task in the terminal, live, until it is over."""

import asyncio
from contextlib import aclosing
from typing import Any

from rich.live import Live

from bot import terminal_output as out
from bot.client import Client, NotRunningError
from core.errors import NotFoundError

OVER = frozenset({"done", "failed", "cancelled"})
TICK_S = 0.5
"""How often the card is read: the server's times tick, and a question must not wait."""
APPEAR_S = 20.0
"""How long a task that was asked for may take to be there: it is understood first."""


async def appeared(client: Client, task: str) -> dict[str, Any]:
    """Return a task that was just asked for, as soon as it is there.

    Raises:
        NotFoundError: If it does not come. Most likely nobody could tell its project.
    """
    end = asyncio.get_running_loop().time() + APPEAR_S
    while True:
        try:
            return await client.get("tasks", task)
        except NotFoundError:
            if asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(TICK_S)


async def watch(client: Client, task: str, *, quiet: bool) -> dict[str, Any]:
    """Show the task until it is over; return it. With `quiet` nothing is shown.

    Where the output is no terminal, steps and questions are printed as they change.
    """
    view = await appeared(client, task)
    screen = _Screen(quiet=quiet)
    with screen.live:
        async with asyncio.TaskGroup() as group:
            talk = group.create_task(_talk(client, screen))
            while True:
                screen.show(view)
                if view["card"]["state"] in OVER:
                    break
                await asyncio.sleep(TICK_S)
                view = await client.get("tasks", task)
            await asyncio.sleep(TICK_S)  # The last words come with the next look of the server.
            talk.cancel()
    return view


class _Screen:
    """The card at the bottom, what the coding agent says above it."""

    def __init__(self, *, quiet: bool) -> None:
        self.console = out.console(stderr=quiet)
        self.quiet = quiet
        self.sessions: list[str] = []
        self.news = asyncio.Event()
        self._said: set[str] = set()
        is_live = self.console.is_terminal and not quiet
        self.live = Live(console=self.console, auto_refresh=is_live, transient=False)
        self.is_live = is_live

    def show(self, view: dict[str, Any]) -> None:
        """Show the card as it is now."""
        for run in view["runs"]:
            if run["session_id"] and run["session_id"] not in self.sessions:
                self.sessions.append(run["session_id"])
                self.news.set()
        if self.quiet:
            return
        if self.is_live:
            self.live.update(out.card(view["card"], is_live=view["card"]["state"] not in OVER))
        else:
            self._print_changes(view["card"])

    def _print_changes(self, card: dict[str, Any]) -> None:
        for step in card["steps"]:
            if step["mark"] != "todo":
                self._once(f"{step['name']}{step['mark']}{step['text']}", out.step_line(step))
        for asked in card["questions"]:
            if asked["is_open"]:
                self._once(asked["id"], out.question(card, asked))
        if card["state"] in OVER and card["result"]:
            self._once("result", out.result(card, card["result"]))

    def _once(self, key: str, shown: Any) -> None:
        if key not in self._said:
            self._said.add(key)
            self.console.print(shown)

    def say(self, event: dict[str, Any]) -> None:
        """Print what the coding agent did."""
        line = out.happened(event)
        if line is not None and not self.quiet:
            self.console.print(line)


async def _talk(client: Client, screen: _Screen) -> None:
    """Print the coding agents' events, one conversation after the other."""
    async with asyncio.TaskGroup() as group:
        known = 0
        while True:
            await screen.news.wait()
            screen.news.clear()
            for session in screen.sessions[known:]:
                group.create_task(_follow(client, screen, session))
            known = len(screen.sessions)


async def _follow(client: Client, screen: _Screen, session: str) -> None:
    after = -1
    while True:
        try:
            stream = client.events("sessions", session, "events", after=after)
            async with aclosing(stream) as events:
                async for event in events:
                    if event.kind == "event":
                        after = int(event.id)
                        screen.say(event.data)
        except NotRunningError:
            await asyncio.sleep(TICK_S)
