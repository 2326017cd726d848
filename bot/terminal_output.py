"""How tasks, machines and workspaces look in a terminal. Words from outside are made visible."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from adapters.system import SystemClock
from adapters.web.visible import log_text, visible
from bot.replies import seconds
from core.ledger import Phase, phases

WIDE = 200
"""Columns where the output is no terminal: programs cut fields by themselves."""
MARKS = {"todo": "·", "doing": "…", "done": "✓", "warning": "!", "failed": "✗", "skipped": "-"}
_COLOURS = {"done": "green", "failed": "red", "warning": "yellow", "doing": "cyan"}
_STATES = {"active": "cyan", "waiting": "yellow", "done": "green", "failed": "red"}

Row = Mapping[str, Any]


def console(*, stderr: bool = False) -> Console:
    """Return where people read."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def plain(value: object, *, style: str = "") -> Text:
    """Return words from outside as they are, hidden characters visible."""
    return Text(visible("" if value is None else str(value)), style=style)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows below their heads, or `empty` as a remark."""
    shown = Table(box=None, pad_edge=False, header_style="dim", show_header=any(heads))
    for head in heads:
        shown.add_column(escape(head), overflow="fold")
    count = 0
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
        count += 1
    if count:
        console().print(shown)
    else:
        click.echo(empty, err=True)


def state(word: str) -> Text:
    """Return a task's state in its colour."""
    return plain(word, style=_STATES.get(word, ""))


def moment(text: object) -> str:
    """Return a time of the API in this machine's own zone."""
    if not isinstance(text, str):
        return "-"
    return datetime.fromisoformat(text).astimezone().strftime("%d %b %H:%M")


def size(mebibytes: float) -> str:
    """Return an amount of memory or disk."""
    return f"{mebibytes / 1024:.1f} GB" if mebibytes >= 1024 else f"{mebibytes:.0f} MB"


def port(found: Row) -> str:
    """Return what listens on a port, to whom it is open, and where it is shown."""
    name = f" {found['name']}" if found["name"] else ""
    place = f"{found['url']}" if found["url"] else "no address"
    return f"{found['port']}{name}, open to the {found['audience']}: {place}"


def making(workspace: Row) -> list[tuple[str, str]]:
    """Return how far each phase of a workspace's making is."""
    is_building = workspace["state"] == "building"
    steps = phases(workspace["steps"], is_building=is_building, now=SystemClock().now())
    return [(step.name, _phase(step)) for step in steps]


def _phase(step: Phase) -> str:
    took = "" if step.took_s is None else seconds(step.took_s)
    return " ".join(part for part in (MARKS[step.mark], took, step.text) if part)


def dollars(card: Row) -> str:
    """Return what a task cost so far."""
    return f"${float(card['tokens_usd']) + float(card['machine_usd']):.2f}"


def tasks(cards: Sequence[Row]) -> None:
    """Print the newest tasks."""
    rows = [
        (c["task_id"], state(c["state"]), c["title"], _now(c), dollars(c), c["facts"][0])
        for c in cards
    ]
    heads = ("TASK", "STATE", "TITLE", "NOW", "COST", "REPOSITORY")
    table(heads, rows, empty="No tasks yet. Ask for one with: samovar task new …")


def _now(card: Row) -> str:
    asked = [question["title"] for question in card["questions"] if question["is_open"]]
    if asked:
        return f"asks: {asked[0]}"
    doing = [step for step in card["steps"] if step["mark"] == "doing"]
    if doing:
        return f"{doing[0]['name']}: {doing[0]['text']}"
    return str(card["result"]["headline"]) if card["result"] else ""


def card(task: Row, *, is_live: bool = False) -> RenderableType:
    """Return the card of a task."""
    lines: list[RenderableType] = [
        Text.assemble((str(task["task_id"]), "dim"), "  ", plain(task["title"], style="bold"))
    ]
    lines.append(plain(" · ".join([*task["facts"], str(task["state"])]), style="dim"))
    if task["state"] == "queued" and task["position"]:
        lines.append(plain(f"  waiting, number {task['position']} in the queue"))
    lines += [step_line(step, is_live=is_live) for step in task["steps"]]
    lines += [plain(f"  {note}", style="yellow") for note in task["notes"]]
    lines += [question(task, asked) for asked in task["questions"] if asked["is_open"]]
    if task["result"] and task["state"] not in {"queued", "active", "waiting"}:
        lines.append(result(task, task["result"]))
    return Group(*lines)


def step_line(step: Row, *, is_live: bool = False) -> RenderableType:
    """Return one step: mark, name, what happens, time so far and usual time."""
    took = "" if step["took_s"] is None else seconds(step["took_s"])
    usual = step["usual_s"] if step["mark"] == "doing" else None
    if usual:
        took += f" (usually {seconds(usual)})"
    colour = _COLOURS.get(step["mark"], "dim")
    words = Text.assemble(f"{step['name']:<13}", plain(step["text"]), "  ", (took, "dim"))
    if is_live and step["mark"] == "doing":
        return Spinner("dots", text=words, style=colour)
    return Text.assemble((MARKS.get(step["mark"], "?"), colour), " ", words)


def question(task: Row, asked: Row) -> Text:
    """Return an open question and how to answer it here."""
    words = Text.assemble("\n", plain(f"? {asked['title']}", style="bold yellow"))
    if asked["detail"]:
        words.append_text(plain(f"\n{asked['detail']}"))
    for one in asked["questions"]:
        words.append_text(plain(f"\n  {one.get('text', '')}"))
        for number, option in enumerate(one.get("options") or [], start=1):
            more = f"  {option['description']}" if option.get("description") else ""
            words.append_text(plain(f"\n    {number}. {option.get('label', '')}{more}"))
    how = "CHOICE" if asked["questions"] else "--allow | --deny"
    words.append(f"\n  samovar task answer {task['task_id']} {how}\n", style="dim")
    return words


def result(task: Row, ended: Row) -> Text:
    """Return what came of a task."""
    words = Text.assemble("\n", plain(ended["headline"], style="bold"))
    if ended["files"]:
        files = f"{ended['files']} file{'s' if ended['files'] != 1 else ''}"
        words.append(f"  +{ended['added']} -{ended['removed']} · {files}")
    for text in (ended["advice"], task["pull_url"]):
        if text:
            words.append_text(plain(f"\n{text}"))
    if ended["says"]:
        words.append_text(plain(f"\nThe agent says: {ended['says']}"))
    for line in ended["measured"]:
        words.append_text(plain(f"\nMeasured: {line}"))
    for check in ended["checks"]:
        mark = ("✓", "green") if check["ok"] else ("✗", "red")
        took = (f"  {seconds(check['took_s'])}", "dim")
        words.append_text(Text.assemble("\n  ", mark, " ", plain(check["command"]), took))
    words.append(f"\n{dollars(task)}", style="dim")
    return words


def thread(lines: Sequence[Row]) -> RenderableType:
    """Return the messages of a thread."""
    shown = []
    for line in lines:
        head = Text.assemble((f"{moment(line['at'])} {visible(line['by'])}: ", "dim"))
        text = head + plain(line["text"])
        shown.append(
            text + Text(f"  ({visible(line['receipt'])})", "dim") if line["receipt"] else text
        )
    return Group(*shown)


def happened(event: Row) -> Text | None:
    """Return one event of a coding agent as a line, or None if it says nothing to people."""
    data = event["data"]
    match event["kind"]:
        case "message.text":
            return plain(data.get("text", ""))
        case "tool.start":
            return Text.assemble(
                ("▸ ", "dim"), plain(data.get("name")), " ", plain(data.get("title"), style="dim")
            )
        case "tool.end" if not data.get("ok", True):
            return plain(f"  ✗ {log_text(str(data.get('summary', '')))}", style="red")
        case "progress":
            return plain(f"▸ {data.get('text', '')}", style="cyan")
        case "notice":
            return plain(f"! {data.get('text', '')}", style="yellow")
        case _:
            return None
