"""`samovar node` and `samovar workspace`: the machines and what runs on them."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import os
import sys
from typing import Any

import click

from bot.cli_files import get, open_to, put, share
from bot.cli_tools import as_json, ask, in_workspace, say_json
from core.errors import UserError

TOKEN_VARIABLE = "SAMOVAR_JOIN_TOKEN"  # noqa: S105  the name of a variable


@click.group()
def node() -> None:
    """Show, add and remove machines."""


@node.command("list")
@as_json
def list_nodes(*, json_wanted: bool) -> None:
    """List the machines that are not gone.

    Exit status: 0 done, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("nodes"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [
        (
            n["id"],
            n["supplier"],
            n["state"],
            n["link"],
            f"{n['cpus']:g}",
            f"{n['load']:.1f}",
            out.size(n["memory_mb"]),
            out.size(n["memory_free_mb"]),
            out.size(n["disk_free_mb"]),
            ", ".join(n["workspaces"]) or "-",
            out.moment(n["seen_at"]),
        )
        for n in found["nodes"]
    ]
    heads = (
        *("NODE", "FROM", "STATE", "LINK", "CPUS", "LOAD"),
        *("MEMORY", "MEMORY FREE", "DISK FREE", "WORKSPACES", "SEEN"),
    )
    out.table(heads, rows, empty="No machines yet.")


@node.command()
@as_json
def enrol(*, json_wanted: bool) -> None:
    """Print a one-time token with which another machine joins.

    Exit status: 0 done, 1 you may not, 3 Samovar is not running here.
    """
    made = ask(lambda client: client.post("nodes", "enrolments"))
    if json_wanted:
        say_json(made)
        return
    click.echo(made["token"])
    click.echo("On the other machine, within 15 minutes: samovar node join URL", err=True)


@node.command()
@click.argument("url")
@click.argument("token", required=False)
@click.option("--cpus", type=float, help="Processors for workspaces; else all.")
@click.option("--memory", type=int, help="Mebibytes for workspaces; else all.")
def join(url: str, token: str | None, *, cpus: float | None, memory: int | None) -> None:
    """Make this machine a node of the Samovar at URL, and work for it until Ctrl-C.

    Sets up what workspaces need here. TOKEN is the one-time token of `samovar node enrol`. Without
    it, $SAMOVAR_JOIN_TOKEN is taken, else a line of stdin: other people of this machine can read
    arguments. A machine that has joined before needs none.

    Exit status: 0 let go on a signal, 2 this machine could not join or something is missing on
    it, 75 a node agent works here already.
    """
    from bot.joining import join as become_a_node

    limits = [f"--cpus={cpus}"] if cpus else []
    limits += [f"--memory={memory}"] if memory else []
    become_a_node(url, lambda: token or os.environ.pop(TOKEN_VARIABLE, "") or _asked_for(), limits)


def _asked_for() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True))
    return sys.stdin.readline().strip()


@node.command("delete")
@click.argument("node_id", metavar="ID")
@as_json
def delete_node(node_id: str, *, json_wanted: bool) -> None:
    """Let a machine go once what runs there has ended.

    Exit status: 0 it drains, 1 there is no such machine or you may not, 3 Samovar is not running
    here.
    """
    ask(lambda client: client.delete("nodes", node_id))
    if json_wanted:
        say_json({"node_id": node_id})
    else:
        click.echo(f"{node_id} finishes what it does and goes.", err=True)


@click.group()
def workspace() -> None:
    """Make, show, enter, stop and remove workspaces; files in and out."""


@workspace.command("list")
@as_json
def list_workspaces(*, json_wanted: bool) -> None:
    """List the workspaces that are not gone.

    Exit status: 0 done, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("workspaces"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [
        (
            w["id"],
            w["state"] + (" (recovered)" if w["recovered"] else ""),
            w["size"],
            w["task_id"] or "-",
            w["project"],
            w["branch"],
            w["node_id"] or "-",
            out.moment(w["keep_until"]),
        )
        for w in found["workspaces"]
    ]
    heads = ("WORKSPACE", "STATE", "SIZE", "TASK", "PROJECT", "BRANCH", "NODE", "KEPT UNTIL")
    out.table(
        heads, rows, empty="No workspaces now. A task makes one, and `samovar workspace new`."
    )


@workspace.command()
@in_workspace
@as_json
def show(workspace_id: str, *, json_wanted: bool) -> None:
    """Show one workspace: state, steps, notes, what listens in it.

    Exit status: 0 done, 1 there is no such workspace, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("workspaces", workspace_id))["workspace"]
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    listening = _listening(workspace_id) if found["state"] == "ready" else []
    names = ("id", "state", "size", "project", "task_id", "branch", "node_id", "recovered", "error")
    rows: list[tuple[object, object]] = [
        (name.removesuffix("_id"), found[name]) for name in names if found[name]
    ]
    if found["place"]:
        rows += [("waits", f"for a machine with room, number {found['place']}")]
    rows += [("kept until", out.moment(found["keep_until"]))]
    rows += out.making(found)
    rows += [("note", note) for note in found["notes"]]
    rows += [("listens", out.port(one)) for one in listening]
    out.table(("", ""), rows, empty="")


def _listening(workspace_id: str) -> list[dict[str, Any]]:
    """Return what listens; nothing where its machine does not answer, which is no news here."""
    try:
        found = ask(lambda client: client.get("workspaces", workspace_id, "ports"))
    except UserError:
        return []
    return list(found["ports"])


for command in (put, get, share, open_to):
    workspace.add_command(command)


@workspace.command()
@in_workspace
@as_json
def log(workspace_id: str, *, json_wanted: bool) -> None:
    """Print the newest build log of a workspace.

    Exit status: 0 done, 1 there is no such workspace or its machine does not answer, 3 Samovar
    is not running here.
    """
    found = ask(lambda client: client.get("workspaces", workspace_id, "log"))
    if json_wanted:
        say_json(found)
        return
    from adapters.web.visible import log_text, visible

    click.echo(visible(log_text(found["log"])))


@workspace.command("link")
@in_workspace
@as_json
def workspace_link(workspace_id: str, *, json_wanted: bool) -> None:
    """Print a link that opens a workspace's terminals in a browser, once, within a minute.

    Exit status: 0 done, 1 there is no such workspace or you may not, 3 Samovar is not running
    here.
    """
    link = ask(lambda client: client.post("workspaces", workspace_id, "links"))
    if json_wanted:
        say_json(link)
    else:
        click.echo(link["url"] or link["path"])
