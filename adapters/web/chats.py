"""Conversations on a workspace's own origin: its chats and its task's, to whoever has its cookie.

Each is a page that fills a frame beside the terminals, and works alone as well.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from markupsafe import Markup
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from adapters.web import render
from adapters.web.answers import answers_in
from adapters.web.api import TEXT_CHARS_MAX, words
from adapters.web.blocks import folded
from adapters.web.hosts import Hosts
from adapters.web.live import Live
from adapters.web.own import Change, In, Injected, Present, headers_of
from adapters.web.pages import tail
from adapters.web.problems import wants_json
from adapters.web.sources import Render, TaskSource, sessions_of
from adapters.web.streams import EventStream, TaskViewer, resume_point
from adapters.web.window import frame
from core.access import may
from core.errors import NotFoundError
from core.ids import DecisionId, TaskId, WorkspaceId
from core.ports.commands import ChatView, Commands, Guest, TaskView, WorkspaceView
from core.wire import SessionEvent

POLICY = "Content-Security-Policy"

router = APIRouter(prefix="/chats")

Text = Annotated[str, Form(max_length=TEXT_CHARS_MAX)]
Key = Annotated[str, Form(max_length=100)]


class Tab(BaseModel):
    """One conversation, as the page of the terminals wants it. `is_own`: it cannot be closed."""

    id: str
    title: str
    state: str
    is_own: bool
    error: str

    @classmethod
    def of(cls, view: ChatView) -> "Tab":
        """Return what the page is told."""
        return cls(
            id=view.id, title=view.title, state=view.state, is_own=view.is_own, error=view.error
        )


@dataclass(slots=True)
class TalkSource(TaskSource):
    """The thread of a conversation, its questions and how it stands."""

    def _put(self, view: TaskView) -> bool:
        self.sessions = sessions_of(view)
        news = [
            self.parts.put(name, frame("put", html))
            for name, html in render.talk_parts(view.card, _at(view.card.task_id))
        ]
        news += [
            self.parts.put(f"line:{n}", frame("put", render.line_html(line, n)))
            for n, line in enumerate(view.lines)
            if line.kind != "card"
        ]
        return any(news)


def _at(chat: TaskId) -> str:
    return f"/chats/{quote(chat)}"


@cache
def _render(pages: str) -> Render:
    """Return what renders events where the pages are at `pages`; the same one for all viewers."""
    return partial(_event_put, pages)


def _event_put(pages: str, event: SessionEvent) -> bytes:
    html = render.event_html(event, pages)
    if event.kind == "session.state":
        html += render.turn_html(is_busy=event.data.get("state") == "busy")
    return frame("put", html, id_=f"{event.session}:{event.offset}") if html else b""


async def _of(commands: Commands, guest: Guest, workspace: WorkspaceId, chat: str) -> ChatView:
    """Return the conversation, which is this workspace's: its cookie opens no other's.

    Raises:
        NotFoundError: It is not here.
    """
    for view in await commands.chats(guest.person, workspace):
        if view.id == chat:
            return view
    raise NotFoundError("That chat is not here any more.")


@router.get("")
async def tabs(workspace: Present, guest: In, commands: Injected) -> list[Tab]:
    """Return the conversations, the task's own first."""
    return [Tab.of(view) for view in await commands.chats(guest.person, workspace.id)]


@router.get("/new")
async def new_page(request: Request, workspace: Present, guest: In) -> Response:
    """Show a box for the first words of a chat."""
    return _page(request, workspace, guest, at="/chats", title="New chat", view=None)


@router.post("")
async def open_chat(
    *,
    request: Request,
    workspace: Present,
    guest: In,
    commands: Injected,
    text: Text = "",
    key: Key = "",
) -> Response:
    """Open a chat."""
    key = key or secrets.token_hex(16)
    made = await commands.new_chat(guest.person, workspace.id, text, surface="web", key=key)
    return _done(request, _at(made.id), is_elsewhere=True)


@router.get("/{chat_id}")
async def page(
    request: Request, chat_id: str, workspace: Present, guest: In, commands: Injected
) -> Response:
    """Show one conversation."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    view = await commands.task(guest.person, chat.id)
    sessions, events = sessions_of(view), list[SessionEvent]()
    if sessions:
        events = [*(await tail(commands, guest.person, sessions[-1]))[0]]
    cursor = f"{sessions[-1]}:{events[-1].offset if events else -1}" if sessions else ""
    return _page(
        request,
        workspace,
        guest,
        at=_at(chat.id),
        title=chat.title,
        view=view,
        is_own=chat.is_own,
        stream=_merged(view, events, request.app.state.hosts.public_url),
        cursor=cursor,
        parts=[html for _, html in render.talk_parts(view.card, _at(chat.id))],
        turn=render.turn_html(is_busy=chat.state == "busy"),
    )


def _merged(view: TaskView, events: Sequence[SessionEvent], pages: str) -> list[Markup]:
    """Return the thread and the events as one conversation, by time."""
    parts: list[tuple[datetime, Markup]] = [
        (line.at, render.line_html(line, number))
        for number, line in enumerate(view.lines)
        if line.kind != "card"
    ]
    parts += [(shown.at, render.block_html(shown, pages)) for shown in folded(events)]
    return [html for _, html in sorted(parts, key=lambda part: part[0])]


def _page(
    request: Request, workspace: WorkspaceView, guest: Guest, **values: object
) -> HTMLResponse:
    shown: Mapping[str, object] = {"parts": [], **values}
    html = render.page(
        "talk.html",
        workspace=workspace,
        pages=request.app.state.hosts.public_url,
        writes=may(guest.person, "steer"),
        key=secrets.token_hex(16),
        **shown,
    )
    return HTMLResponse(html, headers=_for_forms(request.app.state.hosts, workspace.id))


def _for_forms(hosts: Hosts, workspace: WorkspaceId) -> Mapping[str, str]:
    """Let a page have forms. With `no-referrer`, browsers send `Origin: null` with them."""
    policy = headers_of(hosts.origin(workspace), hosts.public_url)[POLICY]
    with_forms = policy.replace("form-action 'none'", "form-action 'self'")
    return {POLICY: with_forms, "Referrer-Policy": "same-origin"}


def _done(request: Request, to: str, *, said: str = "", is_elsewhere: bool = False) -> Response:
    """Answer a form: a browser goes on to `to`, and so does a script if that is another page."""
    if wants_json(request.scope):
        return JSONResponse({"said": said, "to": to if is_elsewhere else ""})
    return RedirectResponse(to, 303)


@router.get("/{chat_id}/live")
async def live(
    request: Request, chat_id: str, workspace: Present, guest: In, commands: Injected
) -> Response:
    """Stream a conversation; it goes on where Last-Event-ID or `after` says."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    reader: Live = request.app.state.live
    shown = _render(request.app.state.hosts.public_url)
    viewer = TaskViewer(reader, chat.id, resume_point(request), make=TalkSource, render=shown)
    return EventStream(reader, viewer)


@router.post("/{chat_id}/messages")
async def say(
    *,
    request: Request,
    chat_id: str,
    workspace: Present,
    guest: In,
    commands: Injected,
    text: Text = "",
    key: Key = "",
) -> Response:
    """Say something in a conversation."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    view = await commands.task(guest.person, chat.id)
    said = words(text, surface="web", key=key, thread=view.thread)
    heard = await commands.say(guest.person, said)
    return _done(request, _at(chat.id), said=heard.said)


@router.post("/{chat_id}/stop")
async def stop(
    request: Request, chat_id: str, workspace: Present, guest: In, commands: Injected
) -> Response:
    """Stop what the coding agent does now; of the task's own, the run."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    await commands.stop(guest.person, chat.id)
    return _done(request, _at(chat.id))


@router.post("/{chat_id}/answer")
async def answer(
    request: Request, chat_id: str, workspace: Present, guest: In, commands: Injected
) -> Response:
    """Answer a question of the coding agent. Options come by number, own words as text."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    form = await request.form(max_files=0)
    view = await commands.task(guest.person, chat.id)
    wanted = str(form.get("decision", ""))
    asked = next((q for q in view.card.questions if q.id == wanted), None)
    if asked is None:
        raise NotFoundError("That question is not there any more.")
    given = answers_in(form, asked.questions) if asked.questions else None
    allow = form.get("allow", "yes") != "no"
    decision = DecisionId(asked.id)
    await commands.answer(guest.person, decision, surface="web", allow=allow, answers=given)
    return _done(request, _at(chat.id))


@router.patch("/{chat_id}", status_code=204)
async def change(
    chat_id: str, wanted: Change, workspace: Present, guest: In, commands: Injected
) -> None:
    """Give a chat another title or place."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    await commands.change_chat(guest.person, chat.id, title=wanted.title, position=wanted.position)


@router.delete("/{chat_id}", status_code=204)
async def close(chat_id: str, workspace: Present, guest: In, commands: Injected) -> None:
    """End a chat and take its tab away."""
    chat = await _of(commands, guest, workspace.id, chat_id)
    await commands.close_chat(guest.person, chat.id)
