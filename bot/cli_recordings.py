"""`samovar recording`: what coding agents and terminals showed, again."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bot.cli_tools import as_json, ask, say_json

if TYPE_CHECKING:
    from bot.client import Client

_WHAT = click.argument("what", metavar="TASK|RECORDING")


@click.group()
def recording() -> None:
    """Watch again what coding agents and terminals showed."""


@recording.command("list")
@click.argument("task_id", metavar="TASK")
@as_json
def list_recordings(task_id: str, *, json_wanted: bool) -> None:
    """List the recordings of a task, the oldest first.

    Exit status: 0 done, 1 there is no such task, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("tasks", task_id, "recordings"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [
        (one["id"], one["title"], one["state"], one["began_at"][:16], one["error"])
        for one in found["recordings"]
    ]
    heads = ("RECORDING", "WHAT", "STATE", "BEGAN", "")
    out.table(heads, rows, empty="Nothing was recorded yet.")


@recording.command("get")
@_WHAT
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write."
)
def get(what: str, *, output: Path | None) -> None:
    """Write a recording as an asciicast, to stdout or to a file; of a task, its last agent's.

    asciinema and other players read it.

    Exit status: 0 done, 1 there is no such recording, 3 Samovar or the machine does not answer.
    """

    async def work(client: "Client") -> None:
        from bot.play import chosen, save

        await save(client, await chosen(client, what), output)

    ask(work)


@recording.command("play")
@_WHAT
@click.option("--at", "at_s", type=click.FloatRange(0), default=0.0, help="Second to begin at.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
def play(what: str, *, at_s: float, speed: float) -> None:
    """Play a recording in this terminal; of a task, its last agent's. Ctrl-C ends it.

    Exit status: 0 played, 1 there is no such recording, 3 Samovar or the machine does not answer.
    """

    async def work(client: "Client") -> None:
        from bot.play import chosen
        from bot.play import play as show

        await show(client, await chosen(client, what), at_s=at_s, speed=speed)

    ask(work)
