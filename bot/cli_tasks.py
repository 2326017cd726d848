"""`samovar task`: ask, look, talk, stop, answer."""
# ruff: noqa: PLC0415  a command imports what it needs when it runs: help must come at once

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bot.cli_tools import as_json, ask, say_json
from core.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from bot.client import Client

YES = frozenset({"yes", "y", "allow", "ok"})
NO = frozenset({"no", "n", "deny"})


@click.group()
def task() -> None:
    """Ask for tasks and look after them."""


@task.command()
@click.argument("text", nargs=-1, required=True)
@click.option("--project", help="Short name of the project; else your words say which.")
@click.option("--key", help="Delivery id: the same key is handled once, so a retry is harmless.")
@click.option("--watch", is_flag=True, help="Show the task until it is over.")
@as_json
def new(
    text: tuple[str, ...],
    *,
    project: str | None,
    key: str | None,
    watch: bool,
    json_wanted: bool,
) -> None:
    """Ask for a task. TEXT - reads it from stdin.

    Exit status: 0 it was taken (with --watch: it is done), 1 it was not (with --watch: it failed
    or was stopped), 3 Samovar is not running here.
    """
    words = sys.stdin.read() if text == ("-",) else " ".join(text)
    body = {"text": words, "project": project, "key": key}

    async def work(client: "Client") -> tuple[dict[str, Any], dict[str, Any] | None]:
        heard = await client.post("tasks", body=body)
        if heard["said"]:
            click.echo(heard["said"], err=True)
        if not watch or not heard["task_id"]:
            return heard, None
        click.echo(f"{heard['task_id']} is asked for.", err=True)
        return heard, await _watched(client, heard["task_id"], quiet=json_wanted)

    heard, view = ask(work)
    if view is not None:
        _end(view, json_wanted=json_wanted)
    elif json_wanted:
        say_json(heard)
    elif heard["task_id"]:
        click.echo(heard["task_id"])
    if heard["said"] and not heard["task_id"]:
        click.echo("On the command line: ask again with --project NAME.", err=True)
        sys.exit(1)


async def _watched(client: "Client", task_id: str, *, quiet: bool) -> dict[str, Any]:
    from bot.watch import watch

    try:
        return await watch(client, task_id, quiet=quiet)
    except NotFoundError as error:
        known = await client.get("projects")
        names = ", ".join(p["id"] for p in known["projects"]) or "none"
        raise NotFoundError(
            f"{error} If your words do not say which project is meant, name it with --project "
            f"(there is: {names})."
        ) from error


def _end(view: Mapping[str, Any], *, json_wanted: bool) -> None:
    if json_wanted:
        say_json(view)
    if view["card"]["state"] != "done":
        sys.exit(1)


@task.command("list")
@click.option("--project", help="Short name of the project.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@as_json
def list_tasks(*, project: str | None, limit: int, json_wanted: bool) -> None:
    """List the newest tasks, newest first.

    Exit status: 0 done, 3 Samovar is not running here.
    """
    query = {"project": project} if project else {}
    found = ask(lambda client: client.get("tasks", limit=limit, **query))
    if json_wanted:
        say_json(found)
        return
    from bot import terminal_output as out

    out.tasks(found["tasks"])


@task.command()
@click.argument("task_id", metavar="ID")
@as_json
def show(task_id: str, *, json_wanted: bool) -> None:
    """Show one task: its card and its thread.

    Exit status: 0 done, 1 there is no such task, 3 Samovar is not running here.
    """
    view = ask(lambda client: client.get("tasks", task_id))
    if json_wanted:
        say_json(view)
        return
    from bot import terminal_output as out

    out.console().print(out.thread(view["lines"]))
    out.console().print(out.card(view["card"]))


@task.command("watch")
@click.argument("task_id", metavar="ID")
@as_json
def watch_task(task_id: str, *, json_wanted: bool) -> None:
    """Show a task live until it is over: steps, what the agent says, questions.

    Exit status: 0 it is done, 1 it failed, was stopped or does not exist, 3 Samovar is not
    running here.
    """
    view = ask(lambda client: _watched(client, task_id, quiet=json_wanted))
    _end(view, json_wanted=json_wanted)


@task.command()
@click.argument("task_id", metavar="ID")
@click.argument("text", nargs=-1, required=True)
@click.option("--queue", is_flag=True, help="Wait for the agent's next idle moment.")
@click.option("--key", help="Delivery id: the same key is handled once.")
@as_json
def reply(
    task_id: str, text: tuple[str, ...], *, queue: bool, key: str | None, json_wanted: bool
) -> None:
    """Say something in a task's thread. TEXT - reads it from stdin.

    While the agent works it steers it; when it is idle it is the next prompt; after the end it
    starts a new run.

    Exit status: 0 it was taken, 1 there is no such task, 3 Samovar is not running here.
    """
    words = sys.stdin.read() if text == ("-",) else " ".join(text)
    body = {"text": words, "when_idle": queue, "key": key}
    heard = ask(lambda client: client.post("tasks", task_id, "replies", body=body))
    if json_wanted:
        say_json(heard)
    else:
        click.echo(heard["said"] or "Taken.", err=True)


@task.command()
@click.argument("task_id", metavar="ID")
@as_json
def stop(task_id: str, *, json_wanted: bool) -> None:
    """Stop a task. What was done is kept; stopping twice is no error.

    Exit status: 0 it stops, 1 there is no such task, 3 Samovar is not running here.
    """
    ask(lambda client: client.post("tasks", task_id, "stop"))
    if json_wanted:
        say_json({"task_id": task_id})
    else:
        click.echo("Stopping. What was done is kept.", err=True)


@task.command()
@click.argument("what", metavar="TASK|DECISION")
@click.argument("choices", nargs=-1, metavar="[CHOICE]...")
@click.option("--allow/--deny", "allow", default=None, help="For permissions, plans and budgets.")
@as_json
def answer(what: str, choices: tuple[str, ...], *, allow: bool | None, json_wanted: bool) -> None:
    """Answer an open question: one CHOICE per question, by number, by name or in your own words.

    Exit status: 0 answered, 1 somebody was first, or there is nothing to answer, 3 Samovar is
    not running here.
    """

    async def work(client: "Client") -> dict[str, Any]:
        asked = await _open_question(client, what)
        body = answer_body(asked, choices, allow=allow)
        await client.post("decisions", asked["id"], "answer", body=body)
        return {"decision": asked["id"], **body}

    given = ask(work)
    if json_wanted:
        say_json(given)
    else:
        click.echo("Answered.", err=True)


async def _open_question(client: "Client", what: str) -> Mapping[str, Any]:
    """Return the one open question of a task, or the decision of that id.

    Raises:
        NotFoundError: There is none.
        UserError: There are several.
    """
    if ":" in what:
        cards = (await client.get("tasks", limit=200))["tasks"]
    else:
        cards = [(await client.get("tasks", what))["card"]]
    found = [q for card in cards for q in card["questions"] if q["is_open"]]
    if ":" in what:
        found = [q for q in found if q["id"] == what]
    if not found:
        raise NotFoundError(f"Nothing waits for an answer at {what}.")
    if len(found) > 1:
        ids = "\n  ".join(f"{q['id']}  {q['title']}" for q in found)
        raise UserError(f"{what} has several questions. Name one:\n  {ids}")
    question: Mapping[str, Any] = found[0]
    return question


def answer_body(
    asked: Mapping[str, Any], choices: Sequence[str], *, allow: bool | None
) -> dict[str, Any]:
    """Return what the API wants for these words.

    Raises:
        UserError: The words do not answer the question.
    """
    questions = asked["questions"]
    if not questions:
        word = " ".join(choices).strip().lower()
        said = True if word in YES else False if word in NO else None
        allow = said if allow is None else allow
        if allow is None:
            raise UserError("This wants a yes or a no: give --allow or --deny.")
        return {"allow": allow}
    if allow is False:
        return {"allow": False}
    if len(choices) != len(questions):
        raise UserError(f"This asks {len(questions)} question(s); give one CHOICE for each.")
    pairs = zip(questions, choices, strict=True)
    return {
        "allow": True,
        "answers": {str(q.get("text", "")): _choice(q, word) for q, word in pairs},
    }


def _choice(question: Mapping[str, Any], word: str) -> str:
    """Return the label that `word` names by number or by name, else `word` itself."""
    labels = [str(option.get("label", "")) for option in question.get("options") or []]
    if word.isdecimal() and 1 <= int(word) <= len(labels):
        return labels[int(word) - 1]
    return next((label for label in labels if label.lower() == word.lower()), word)
