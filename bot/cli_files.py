"""`samovar workspace put`, `get`, `share`, `open-to`: files in and out, who sees previews."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import os
import secrets
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote_from_bytes

import click

from bot.cli_tools import as_json, ask, in_workspace, say_json
from core.errors import UserError

if TYPE_CHECKING:
    from bot.client import Client

STANDARD = "-"


@click.command()
@in_workspace
@click.argument("file", metavar="FILE")
@click.argument("path", metavar="[PATH]", required=False, default="")
@click.option("--replace", is_flag=True, help="Also over a file that is there.")
@as_json
def put(workspace_id: str, file: str, path: str, *, replace: bool, json_wanted: bool) -> None:
    """Write FILE into a workspace, whole or not at all.

    PATH is below the checkout, in a folder that is there; with a slash at its end it is the
    folder. `-` reads stdin, and then PATH names the file.

    Exit status: 0 it is there, 1 a file is there already, there is no such folder or workspace or
    you may not, 3 Samovar is not running here.
    """
    if file == STANDARD and (not path or path.endswith("/")):
        raise click.UsageError("With - for FILE, PATH names the file.")
    target = path + Path(file).name if not path or path.endswith("/") else path
    query = {"replaces": "true"} if replace else {}

    async def work(client: "Client") -> None:
        with _source(file) as source:
            await client.send(
                "workspaces", workspace_id, "files", encoded(target), data=source, **query
            )

    ask(work)
    _say(workspace_id, target, json_wanted=json_wanted)


@click.command()
@in_workspace
@click.argument("path", metavar="PATH")
@click.argument("file", metavar="[FILE]", required=False, default="")
@click.option("--replace", is_flag=True, help="Also over a file that is here.")
@as_json
def get(workspace_id: str, path: str, file: str, *, replace: bool, json_wanted: bool) -> None:
    """Read a file of a workspace into FILE, whole or not at all.

    PATH is below the checkout. Without FILE it is the name of PATH in this folder; `-` is stdout.

    Exit status: 0 it is here, 1 there is no such file, FILE is there already or you may not, 3
    Samovar is not running here.
    """
    target = file or Path(path).name
    if target != STANDARD and not replace and Path(target).exists():
        raise UserError(f"{target} is here already. Say --replace, or name another FILE.")

    async def work(client: "Client") -> None:
        chunks = client.receive("workspaces", workspace_id, "files", encoded(path))
        async with aclosing(chunks):
            first = await anext(chunks, b"")
            with _sink(target) as sink:
                sink.write(first)
                async for chunk in chunks:
                    sink.write(chunk)

    if target == STANDARD:
        ask(work)
        return
    try:
        ask(work)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}.") from error
    _say(workspace_id, target, json_wanted=json_wanted)


@click.command()
@in_workspace
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--hours", type=click.IntRange(1, 168), default=24, show_default=True)
@as_json
def share(workspace_id: str, port: int, *, hours: int, json_wanted: bool) -> None:
    """Print a link that shows a port of a workspace to whoever uses it, once, without signing in.

    Exit status: 0 done, 1 there is no such workspace or it is not yours, 3 Samovar is not running
    here.
    """
    body = {"hours": hours}
    where = ("workspaces", workspace_id, "ports", str(port), "links")
    link = ask(lambda client: client.post(*where, body=body))
    if json_wanted:
        say_json(link)
    else:
        click.echo(link["url"] or link["path"])


@click.command("open-to")
@in_workspace
@click.argument("port", type=click.IntRange(1, 65535))
@click.argument("audience", type=click.Choice(["owner", "project"]))
@as_json
def open_to(workspace_id: str, port: int, audience: str, *, json_wanted: bool) -> None:
    """Say who sees a port of a workspace by signing in. `owner` also ends every link to it.

    Exit status: 0 done, 1 there is no such workspace or it is not yours, 3 Samovar is not running
    here.
    """
    where = ("workspaces", workspace_id, "ports", str(port))
    ask(lambda client: client.patch(*where, body={"audience": audience}))
    if json_wanted:
        say_json({"workspace_id": workspace_id, "port": port, "audience": audience})
    else:
        click.echo(f"Port {port} is open to the {audience}.", err=True)


def encoded(path: str) -> str:
    """Return a path as `core.browse` has it, whatever bytes are in it."""
    return quote_from_bytes(os.fsencode(path))


def _source(file: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if file == STANDARD else Path(file).open("rb")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error


def _sink(target: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if target == STANDARD else _whole(Path(target))


@contextmanager
def _whole(target: Path) -> Generator[BinaryIO]:
    """Write beside a file under a name that nobody has, and take its place at the end."""
    part = target.parent / f".samovar-{secrets.token_hex(8)}.part"
    with part.open("xb") as sink:
        try:
            yield sink
            sink.flush()
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _say(workspace_id: str, path: str, *, json_wanted: bool) -> None:
    if json_wanted:
        say_json({"workspace_id": workspace_id, "path": path})
    else:
        from adapters.web.visible import visible

        click.echo(f"{visible(path)} is there.", err=True)
