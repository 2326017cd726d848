"""`samovar session`: an agent's conversation in one's own terminal, and back."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import sys
from typing import TYPE_CHECKING, Any

import click

from bot.cli_tools import as_json, ask, say_json
from core.errors import UserError

if TYPE_CHECKING:
    from bot.client import Client

LOOK_S = 0.5


@click.group()
def session() -> None:
    """Take an agent's conversation into a terminal, and give it back."""


@session.command("open")
@click.argument("task_id", metavar="TASK")
@click.option("--wait", "when", flag_value="idle", help="Open it once a busy agent is idle.")
@click.option("--now", "when", flag_value="now", help="Interrupt a busy agent.")
@as_json
def open_session(task_id: str, *, when: str | None, json_wanted: bool) -> None:
    """Go on with an agent yourself, in Claude Code's own program.

    What is said in the thread meanwhile waits. /exit, or samovar session return, gives the
    conversation back and the agent goes on by itself. Ctrl-] twice lets go of the terminal only.
    With --json it is opened and not shown.

    Exit status: 0 let go of or opened; Claude Code's own when it ends; 1 it cannot be opened or
    you may not, 3 Samovar is not running here.
    """
    if not json_wanted and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("samovar session open needs a terminal; with --json it only opens one.")

    async def work(client: "Client") -> int:
        from bot.attach import attach, say

        opened = await _open(client, task_id, when or "")
        if json_wanted:
            say_json(opened)
            return 0
        if opened["state"] == "waiting":
            say("The agent is at work. Waiting until it is idle; Ctrl-C stops looking, not that.")
            opened = await _opened(client, opened)
        return await attach(client, opened, read_only=False)

    sys.exit(ask(work))


async def _open(client: "Client", task_id: str, when: str) -> dict[str, Any]:
    session_id = await _session(client, task_id)
    return await client.post("sessions", session_id, "terminal", body={"when": when})


async def _opened(client: "Client", terminal: dict[str, Any]) -> dict[str, Any]:
    """Return a terminal that waits no more. A control plane that is away is waited for too.

    Raises:
        UserError: Its tab was closed meanwhile.
    """
    import asyncio

    from bot.client import ServerError

    while terminal["state"] == "waiting":
        await asyncio.sleep(LOOK_S)
        try:
            tabs = await client.get("workspaces", terminal["workspace_id"], "terminals")
        except ServerError:
            continue
        there = [tab for tab in tabs["terminals"] if tab["id"] == terminal["id"]]
        if not there:
            raise UserError("The agent's conversation stays with its thread: nobody waits for it.")
        terminal = there[0]
    return terminal


async def _session(client: "Client", task_id: str) -> str:
    """Return the newest conversation of a task's agent.

    Raises:
        UserError: There is none yet.
    """
    view = await client.get("tasks", task_id.upper())
    for run in reversed(view["runs"]):
        if run["session_id"]:
            return str(run["session_id"])
    raise UserError(f"{task_id.upper()} has no agent yet. Try again when it works.")


@session.command("return")
@click.argument("task_id", metavar="TASK")
@as_json
def return_session(task_id: str, *, json_wanted: bool) -> None:
    """Give an agent's conversation back: the agent goes on by itself. Twice is no error.

    Exit status: 0 given back, 1 there is no such task or you may not, 3 Samovar is not running
    here.
    """

    async def work(client: "Client") -> None:
        await client.delete("sessions", await _session(client, task_id), "terminal")

    ask(work)
    if json_wanted:
        say_json({"task_id": task_id.upper()})
    else:
        click.echo("The agent goes on by itself.", err=True)
