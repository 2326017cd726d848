"""`samovar attach` and `samovar terminal`: shells in workspaces."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import sys
from typing import TYPE_CHECKING

import click

from bot.cli_tools import as_json, ask, in_workspace, say_json

if TYPE_CHECKING:
    from bot.client import Client


@click.command()
@in_workspace
@click.option("--terminal", metavar="ID", help="A tab, by its id or its title.")
@click.option("--new", is_flag=True, help="Open another shell.")
@click.option("--read-only", is_flag=True, help="Look, and type nothing.")
def attach(workspace_id: str, *, terminal: str | None, new: bool, read_only: bool) -> None:
    """Open a shell of a workspace in this terminal.

    It is the first one that is open there, else a new one. Ctrl-] twice lets go of it; it goes
    on. An interruption is waited for, and nothing of what the shell says is lost.

    Exit status: 0 let go of; the shell's own when it ends, or 128 and the number of the signal
    that ended it; 1 there is no such terminal or you may not, 3 Samovar is not running here.
    """
    if new and terminal is not None:
        raise click.UsageError("--new opens another terminal than --terminal names. Give one.")

    async def work(client: "Client") -> int:
        from bot.attach import attach as show
        from bot.attach import chosen

        found = await chosen(client, workspace_id, terminal=terminal, new=new)
        return await show(client, found, read_only=read_only)

    sys.exit(ask(work))


@click.group()
def terminal() -> None:
    """Show, open and close shells in workspaces."""


@terminal.command("list")
@in_workspace
@as_json
def list_terminals(workspace_id: str, *, json_wanted: bool) -> None:
    """List the terminals of a workspace.

    Exit status: 0 done, 1 there is no such workspace, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("workspaces", workspace_id, "terminals"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [
        (
            tab["id"],
            tab["title"],
            tab["state"],
            "-" if tab["exit_code"] is None else tab["exit_code"],
            tab["error"],
        )
        for tab in found["terminals"]
    ]
    heads = ("TERMINAL", "TITLE", "STATE", "EXIT", "")
    out.table(heads, rows, empty=f"No terminals. Open one: samovar attach {workspace_id}")


@terminal.command("open")
@in_workspace
@click.option("--title", default="", help="What its tab shows; else Shell and a number.")
@as_json
def open_terminal(workspace_id: str, *, title: str, json_wanted: bool) -> None:
    """Open a shell and print its id.

    Exit status: 0 it opens, 1 there is no such workspace, it is not ready or you may not, 3
    Samovar is not running here.
    """
    body = {"title": title}
    made = ask(lambda client: client.post("workspaces", workspace_id, "terminals", body=body))
    if json_wanted:
        say_json(made)
    else:
        click.echo(made["id"])


@terminal.command("close")
@click.argument("terminal_id", metavar="ID")
@as_json
def close_terminal(terminal_id: str, *, json_wanted: bool) -> None:
    """End what runs in a terminal and take its tab away. Closing twice is no error.

    Exit status: 0 it closes, 1 there is no such terminal or you may not, 3 Samovar is not
    running here.
    """
    ask(lambda client: client.delete("terminals", terminal_id))
    if json_wanted:
        say_json({"terminal_id": terminal_id})
    else:
        click.echo(f"{terminal_id} closes.", err=True)
