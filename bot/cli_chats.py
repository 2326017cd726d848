"""`samovar chat`: conversations with coding agents in workspaces."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import click

from bot.cli_tools import as_json, ask, in_workspace, say_json


@click.group()
def chat() -> None:
    """Show, open and close chats in workspaces."""


@chat.command("list")
@in_workspace
@as_json
def list_chats(workspace_id: str, *, json_wanted: bool) -> None:
    """List the conversations of a workspace: its task's, then its chats.

    Exit status: 0 done, 1 there is no such workspace, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("workspaces", workspace_id, "chats"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [(c["id"], c["title"], c["state"], c["error"]) for c in found["chats"]]
    heads = ("CHAT", "TITLE", "STATE", "")
    out.table(heads, rows, empty=f'No chats. Open one: samovar chat new {workspace_id} "…"')


@chat.command("new")
@in_workspace
@click.argument("text")
@as_json
def new_chat(workspace_id: str, text: str, *, json_wanted: bool) -> None:
    """Open a chat with its first words and print its id.

    It is a task: `samovar task reply ID`, `samovar task watch ID` and `samovar task stop ID` work
    with it. A stop only ends what the agent does now.

    Exit status: 0 it opens, 1 there is no such workspace, it is not ready or you may not, 3
    Samovar is not running here.
    """
    body = {"text": text}
    made = ask(lambda client: client.post("workspaces", workspace_id, "chats", body=body))
    if json_wanted:
        say_json(made)
    else:
        click.echo(made["id"])


@chat.command("close")
@click.argument("chat_id", metavar="ID")
@as_json
def close_chat(chat_id: str, *, json_wanted: bool) -> None:
    """End a chat and take its tab away. What was done in it stays in the workspace.

    Exit status: 0 it closes, 1 there is no such chat or you may not, 3 Samovar is not running
    here.
    """
    ask(lambda client: client.delete("chats", chat_id))
    if json_wanted:
        say_json({"chat_id": chat_id})
    else:
        click.echo(f"{chat_id} closes.", err=True)
