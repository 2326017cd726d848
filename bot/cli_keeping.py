"""`samovar workspace new|stop|restart|rebuild|delete` and `samovar rescue`."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

from collections.abc import Mapping
from typing import Any

import click

from bot.cli_machines import workspace
from bot.cli_tools import as_json, ask, in_workspace, say_json


@workspace.command("new")
@click.argument("project")
@click.option("--size", type=click.Choice(["small", "medium", "large"]), help="Else the project's.")
@click.option("--branch", default="", help="A branch to go on with; else a new one.")
@as_json
def new_workspace(project: str, *, size: str | None, branch: str, json_wanted: bool) -> None:
    """Make a workspace of PROJECT without a task.

    Exit status: 0 it is being made, 1 there is no such project, the branch cannot be worked on or
    you may not, 3 Samovar is not running here.
    """
    body = {"project": project, "size": size or "", "branch": branch}
    made = ask(lambda client: client.post("workspaces", body=body))["workspace"]
    _say_made(made, json_wanted=json_wanted)


def _say_made(made: Mapping[str, Any], *, json_wanted: bool) -> None:
    if json_wanted:
        say_json(made)
        return
    click.echo(made["id"])
    click.echo(f"It is being made. Then: samovar attach {made['id']}", err=True)


def _asked(workspace_id: str, verb: str, said: str, *, json_wanted: bool) -> None:
    ask(lambda client: client.post("workspaces", workspace_id, verb))
    _say_asked(workspace_id, said, json_wanted=json_wanted)


def _say_asked(workspace_id: str, said: str, *, json_wanted: bool) -> None:
    if json_wanted:
        say_json({"workspace_id": workspace_id})
    else:
        click.echo(f"{workspace_id} {said}", err=True)


@workspace.command()
@in_workspace
@as_json
def stop(workspace_id: str, *, json_wanted: bool) -> None:
    """Save a workspace and let its machine go.

    Its repository's folder, conversations and terminals' histories are saved; the home folder is
    not, and volumes wait on the machine.

    Exit status: 0 it stops, 1 there is none, a run works in it or you may not, 3 Samovar is not
    running here.
    """
    said = f"stops: saved first. Back with: samovar workspace restart {workspace_id}"
    _asked(workspace_id, "stop", said, json_wanted=json_wanted)


@workspace.command()
@in_workspace
@as_json
def restart(workspace_id: str, *, json_wanted: bool) -> None:
    """Put a stopped workspace back, with what was saved of it.

    Exit status: 0 it starts, 1 there is none, it runs already or you may not, 3 Samovar is not
    running here.
    """
    _asked(workspace_id, "restart", "starts again.", json_wanted=json_wanted)


@workspace.command()
@in_workspace
@as_json
def rebuild(workspace_id: str, *, json_wanted: bool) -> None:
    """Make the container of a workspace anew; its files stay.

    Exit status: 0 it is made anew, 1 there is none, it is not ready, a run works in it or you may
    not, 3 Samovar is not running here.
    """
    _asked(workspace_id, "rebuild", "is made anew.", json_wanted=json_wanted)


@workspace.command("delete")
@in_workspace
@click.option(
    "--without-copy",
    is_flag=True,
    help="Throw away all that was not pushed: for a workspace that cannot be saved.",
)
@click.option("--yes", is_flag=True, help="Do not ask before work is thrown away.")
@as_json
def delete_workspace(
    workspace_id: str, *, without_copy: bool, yes: bool, json_wanted: bool
) -> None:
    """Remove a workspace that no run works in; a copy of its work is made first.

    Exit status: 0 it goes, 1 there is none, a run works in it, you may not or did not confirm, 3
    Samovar is not running here.
    """
    said = "goes. Its copy will be in: samovar rescue list"
    query = {}
    if without_copy:
        if not yes:
            click.confirm(_lost(workspace_id), abort=True, err=True)
        said, query = "goes, without a copy.", {"without_copy": "true"}
    ask(lambda client: client.delete("workspaces", workspace_id, **query))
    _say_asked(workspace_id, said, json_wanted=json_wanted)


def _lost(workspace_id: str) -> str:
    return (
        f"Everything in {workspace_id} that was not pushed is lost for good: commits, changes, new "
        "files and the agent's conversation. Delete it without a copy?"
    )


@click.group()
def rescue() -> None:
    """Show and restore what workspaces left behind."""


@rescue.command("list")
@as_json
def list_copies(*, json_wanted: bool) -> None:
    """List the rescue copies that can be restored, newest first.

    Exit status: 0 done, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("rescue-copies"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [
        (
            one["id"],
            one["why"],
            one["task_id"] or "-",
            one["project"],
            one["branch"],
            out.size(one["size_bytes"] / 2**20),
            one["left_out_count"] or "-",
            out.moment(one["made_at"]),
            out.moment(one["expires_at"]),
        )
        for one in found["copies"]
    ]
    heads = ("COPY", "WHY", "TASK", "PROJECT", "BRANCH", "SIZE", "NOT IN IT", "MADE", "KEPT UNTIL")
    out.table(heads, rows, empty="No rescue copies. A workspace that stops leaves one.")


@rescue.command()
@click.argument("copy", metavar="COPY")
@as_json
def restore(copy: str, *, json_wanted: bool) -> None:
    """Make a new workspace from a rescue copy.

    Exit status: 0 it is being made, 1 there is no such copy or you may not, 3 Samovar is not
    running here.
    """
    made = ask(lambda client: client.post("rescue-copies", copy, "restore", body={}))["workspace"]
    _say_made(made, json_wanted=json_wanted)
