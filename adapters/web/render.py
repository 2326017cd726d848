"""Templates: every value is made visible and escaped on its way out."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from adapters.web.blocks import Block, block
from adapters.web.text import is_web_link, markdown
from adapters.web.visible import clip, log_text, visible
from core.card import Card
from core.ports.commands import Line, RunLine
from core.wire import SessionEvent


def _shown(value: Any) -> Any:
    """Return what is printed for `value`: not too long, hidden characters visible."""
    if value is None:
        return ""
    if isinstance(value, Markup):
        return value
    return visible(clip(str(value)))


def _whole(text: str) -> Markup:
    """Return `text` uncut; for what its giver has bounded already."""
    return escape(visible(text))


def duration(seconds: float | None) -> str:
    """Return `0.4 s`, `58 s`, `7 m 12 s` or `2 h 05 m`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"


def _memory(mebibytes: float) -> str:
    return f"{mebibytes / 1024:.1f} GB" if mebibytes >= 1024 else f"{mebibytes:.0f} MB"


def _bytes(count: int) -> str:
    """Return `812 B`, `3.1 kB` or `4.0 MB`."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def _stamp(seconds: float) -> Markup:
    """Return a file's time; a machine may tell any number."""
    try:
        return _moment(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return _moment(None)


def _moment(at: datetime | None) -> Markup:
    if at is None:
        return Markup("\u2013")
    text = Markup('<time datetime="{}">{} UTC</time>')
    return text.format(at.isoformat(), at.strftime("%d %b %H:%M"))


@cache
def templates() -> Environment:
    """Return the one template environment of the pages."""
    environment = Environment(
        loader=PackageLoader("adapters.web", "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        markdown=markdown,
        clip=clip,
        log=log_text,
        whole=_whole,
        duration=duration,
        memory=_memory,
        bytes=_bytes,
        stamp=_stamp,
        moment=_moment,
        is_web_link=is_web_link,
    )
    return environment


def page(name: str, **values: Any) -> str:
    """Render a whole page."""
    return templates().get_template(name).render(**values)


def _part(name: str, macro: str, *values: Any) -> Markup:
    module: Any = templates().get_template(name).module
    html: Markup = getattr(module, macro)(*values)
    return html


CARD_PARTS = ("head", "questions", "result", "steps", "notes", "foot")


def card_parts(card: Card) -> list[tuple[str, Markup]]:
    """Render the card of a task's own page in parts, each with an id of its own.

    A part is replaced only when it changed, so a half-written answer survives a tick of a clock.
    """
    return [(name, _part("card.html", name, card)) for name in CARD_PARTS]


def summary_html(card: Card) -> Markup:
    """Render the card of a list of tasks."""
    return _part("card.html", "summary", card)


def line_html(line: Line, number: int) -> Markup:
    """Render one message of a thread."""
    return _part("stream.html", "line", line, number)


def run_html(run: RunLine) -> Markup:
    """Render the heading of a run."""
    return _part("stream.html", "run", run)


def block_html(shown: Block, pages: str = "") -> Markup:
    """Render one piece of a coding agent's stream; `pages` is where they are, if not here."""
    return _part("stream.html", "block", shown, pages)


def event_html(event: SessionEvent, pages: str = "") -> Markup:
    """Render one event of a coding agent, empty if pages do not show its kind."""
    shown = block(event)
    return block_html(shown, pages) if shown else Markup()


TALK_PARTS = ("questions", "standing")


def talk_parts(card: Card, at: str) -> list[tuple[str, Markup]]:
    """Render what stands below a conversation whose own address is `at`, in parts with ids."""
    return [(name, _part("talk_parts.html", name, card, at)) for name in TALK_PARTS]


def turn_html(*, is_busy: bool) -> Markup:
    """Render whether the coding agent is at work."""
    return _part("talk_parts.html", "turn", is_busy)
