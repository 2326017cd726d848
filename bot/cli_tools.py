"""What the commands share: the way to the server, and how a result is printed."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from core.errors import UserError

if TYPE_CHECKING:
    from bot.client import Client

R = TypeVar("R")

as_json = click.option(
    "--json", "json_wanted", is_flag=True, help="Print one JSON document on stdout."
)


_TASK = re.compile(r"[Tt]-\d+")


def _meant(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return the workspace's own name, also for the name of its task.

    Raises:
        UserError: The task has none.
    """
    if not _TASK.fullmatch(value):
        return value
    task = value.upper()
    found = ask(lambda client: client.get("tasks", task))["card"]["workspace_id"]
    if not found:
        raise UserError(f"{task} has no workspace. Reply in its thread to give it one.")
    return str(found)


in_workspace = click.argument("workspace_id", metavar="WORKSPACE|TASK", callback=_meant)


def ask(work: "Callable[[Client], Awaitable[R]]") -> R:
    """Do `work` with the server that runs on this machine and return what comes of it."""
    import asyncio

    from bot.client import Client
    from bot.state import SOCKET, state_dir

    async def with_client() -> R:
        async with Client(state_dir() / SOCKET) as client:
            return await work(client)

    return asyncio.run(with_client())


def say_json(document: object) -> None:
    """Print the one JSON document of a command. Its escapes keep a terminal from obeying it."""
    click.echo(json.dumps(document, indent=2))
