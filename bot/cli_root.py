"""The commands of `samovar`: results on stdout, remarks on stderr.

Nothing heavy is imported at the top: `samovar --help` starts in a few hundredths of a second.
"""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from bot.cli_chats import chat
from bot.cli_keeping import rescue
from bot.cli_machines import node, workspace
from bot.cli_recordings import recording
from bot.cli_sessions import session
from bot.cli_tasks import task
from bot.cli_terminals import attach, terminal
from bot.cli_tools import as_json, ask, say_json
from core.errors import AppError, ConfigError, OutsideError, UserError

BUG = 70
"""`EX_SOFTWARE` of sysexits.h."""


class Program(click.Group):
    """Turns our errors into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except AppError as error:
            return _refuse(ctx, error)
        except BaseExceptionGroup as group:
            known = _first_of(group)
            return self._bug(ctx) if known is None else _refuse(ctx, known)
        except Exception:  # noqa: BLE001  the door: a bug ends here, with its traceback
            return self._bug(ctx)

    def _bug(self, ctx: click.Context) -> None:
        traceback.print_exc()
        click.echo("samovar: that was a bug of ours. Please report the lines above.", err=True)
        ctx.exit(BUG)


def _first_of(group: BaseExceptionGroup[BaseException]) -> AppError | None:
    """Return the first error of our contract in `group`."""
    for error in group.exceptions:
        if isinstance(error, AppError):
            return error
        if isinstance(error, BaseExceptionGroup):
            return _first_of(error)
    return None


def _refuse(ctx: click.Context, error: AppError) -> None:
    click.echo(f"samovar: {error}", err=True)
    ctx.exit(_status(error))


def _status(error: AppError) -> int:
    if error.code == "bug":
        return BUG
    for kind, status in ((UserError, 1), (ConfigError, 2), (OutsideError, 3)):
        if isinstance(error, kind):
            return status
    return BUG


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for all that is kept on this machine; else $SAMOVAR_STATE.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SAMOVAR_CONFIG",
    help="Configuration file; else $SAMOVAR_CONFIG, else config.toml in the state folder.",
)
@click.version_option(package_name="samovar", prog_name="samovar")
@click.pass_context
def cli(ctx: click.Context, state: Path | None, config: Path | None) -> None:
    """Say what should change in a repository; get a pull request.

    Exit status: 0 done, 1 not possible (the sentence says why), 2 something must be set or
    installed first, 3 something outside does not answer, 70 a bug of ours.
    """
    if state is not None:
        os.environ["SAMOVAR_STATE"] = str(state.absolute())
    ctx.obj = config


cli.add_command(attach)
cli.add_command(session)
cli.add_command(task)
cli.add_command(terminal)
cli.add_command(recording)
cli.add_command(chat)
cli.add_command(node)
cli.add_command(rescue)
cli.add_command(workspace)


@cli.command()
@click.pass_obj
def serve(config: Path | None) -> None:
    """Run Samovar until Ctrl-C or SIGTERM.

    Exit status: 0 stopped as asked, 2 something must be set or installed first.
    """
    from bot.service import serve as run

    run(config)


@cli.command()
@as_json
@click.pass_obj
def migrate(config: Path | None, *, json_wanted: bool) -> None:
    """Bring the records up to the newest schema.

    Exit status: 0 done or nothing to do, 2 the configuration is wrong, 3 the database does not
    answer, 70 a migration failed.
    """
    from bot.service import migrate as run

    applied = run(config)
    if json_wanted:
        say_json({"applied": applied})
        return
    for name in applied:
        click.echo(f"applied {name}")
    click.echo(f"{len(applied)} migration{'s' if len(applied) != 1 else ''}", err=True)


@cli.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, *, json_wanted: bool) -> None:
    """Name what is missing here, and the command that mends it. Changes nothing.

    Exit status: 0 nothing is missing, 2 something is.
    """
    from bot.doctor import examine

    findings = examine(ctx.obj)
    if json_wanted:
        fields = ("name", "ok", "detail", "mend")
        say_json({"findings": [{name: getattr(f, name) for name in fields} for f in findings]})
    else:
        for finding in findings:
            mark = click.style("✓", fg="green") if finding.ok else click.style("✗", fg="red")
            click.echo(f"{mark} {finding.name}: {finding.detail}")
            if finding.mend and not finding.ok:
                click.echo(f"    {finding.mend}")
    if not all(finding.ok for finding in findings):
        ctx.exit(2)


@cli.command()
@click.option("--once", is_flag=True, help="End after the job instead of staying up.")
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True)
@as_json
def demo(*, once: bool, port: int, json_wanted: bool) -> None:
    """Run the whole main job on this machine with a sample repository.

    Sets up what is missing, starts everything, and stays up to try more. With ANTHROPIC_API_KEY
    set it uses the real model, else a scripted one.

    Exit status: 0 the pull request is there with the agent's commit in it, 1 it is not, 2
    something is missing that could not be set up.
    """
    from bot.demo.main import demo as run
    from bot.setup import may_install

    sys.exit(run(once=once, as_json=json_wanted, port=port, install=may_install()))


@cli.command("sign-in")
@as_json
def sign_in(*, json_wanted: bool) -> None:
    """Print a link that signs a browser in, once.

    Exit status: 0 done, 3 Samovar is not running here.
    """
    link = ask(lambda client: client.post("sign-in-links"))
    if json_wanted:
        say_json(link)
    else:
        click.echo(link["url"] or link["path"])


@cli.group()
def project() -> None:
    """Show the repositories that tasks are about."""


@project.command("list")
@as_json
def list_projects(*, json_wanted: bool) -> None:
    """List the projects.

    Exit status: 0 done, 3 Samovar is not running here.
    """
    found = ask(lambda client: client.get("projects"))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    rows = [
        (p["id"], p["repository"], p["branch"] or "default", p["size"], f"${p['budget_usd']}")
        for p in found["projects"]
    ]
    heads = ("PROJECT", "REPOSITORY", "BRANCH", "SIZE", "BUDGET")
    out.table(heads, rows, empty="No projects. Add a [[projects]] table to the configuration.")
