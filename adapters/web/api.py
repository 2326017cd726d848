"""The JSON API, `/api/v1`: who asks, what, answer. `Commands` decides whether they may."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, WebSocket
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from adapters.web.auth import Actor, who
from adapters.web.live import LIMIT, Live
from adapters.web.problems import refusal, status_of
from adapters.web.sources import event_json
from adapters.web.streams import EventStream, FactsViewer, SessionViewer, resume_point
from adapters.web.viewing import show
from core.card import Card
from core.errors import AppError, NotFoundError, OutsideError, UserError
from core.event import Event
from core.ids import (
    DecisionId,
    NodeId,
    ProjectId,
    SessionId,
    TaskId,
    TerminalId,
    ThreadId,
    WorkspaceId,
)
from core.ledger import Spread, Start, usual_of
from core.ports.commands import (
    ChatView,
    Commands,
    Heard,
    NodeView,
    TaskView,
    TerminalView,
    When,
    Words,
    WorkspaceView,
)
from core.project import Project
from core.wire import to_json

TEXT_CHARS_MAX = 100_000
TITLE_CHARS_MAX = 200
OFFSET_MAX = 2**63 - 1

router = APIRouter()


async def _commands(connection: HTTPConnection) -> Commands:
    commands: Commands = connection.app.state.commands
    return commands


async def _live(request: Request) -> Live:
    live: Live = request.app.state.live
    return live


async def _surface(request: Request) -> str:
    surface: str = request.app.state.surface
    return surface


Injected = Annotated[Commands, Depends(_commands)]
Reader = Annotated[Live, Depends(_live)]
Surface = Annotated[Literal["web", "cli"], Depends(_surface)]
After = Annotated[int, Query(ge=-1, le=OFFSET_MAX)]
Limit = Annotated[int, Query(ge=1, le=LIMIT)]


class NewTask(BaseModel):
    """What should be done. The same `key` is handled once."""

    text: str = Field(min_length=1, max_length=TEXT_CHARS_MAX)
    project: str | None = Field(default=None, max_length=100)
    key: str | None = Field(default=None, min_length=1, max_length=200)


class Reply(BaseModel):
    """Words in a task's thread. `when_idle` waits for the coding agent's next idle moment."""

    text: str = Field(min_length=1, max_length=TEXT_CHARS_MAX)
    when_idle: bool = False
    key: str | None = Field(default=None, min_length=1, max_length=200)


class Answer(BaseModel):
    """`allow` for a permission, plan or budget; `answers` maps question text to answer text."""

    allow: bool = True
    answers: dict[str, str] | None = None


class Receipt(BaseModel):
    """What was stored. `said` is for the asker alone."""

    thread: ThreadId
    task_id: TaskId | None
    said: str

    @classmethod
    def of(cls, heard: Heard) -> "Receipt":
        """Return the receipt for what was heard."""
        return cls(thread=heard.thread, task_id=heard.task_id, said=heard.said)


class Tasks(BaseModel):
    """Newest first."""

    tasks: Sequence[Card]


class Events(BaseModel):
    """Facts, oldest first. Go on with `after` = the last `seq`."""

    events: Sequence[Event]


class Projects(BaseModel):
    """What the asker may see."""

    projects: Sequence[Project]


class Nodes(BaseModel):
    """Machines that are not gone."""

    nodes: Sequence[NodeView]


class Workspaces(BaseModel):
    """Workspaces that are not gone."""

    workspaces: Sequence[WorkspaceView]


class Starts(BaseModel):
    """How workspaces of a project started; `usual` by the step that took so long."""

    starts: Sequence[Start]
    usual: Mapping[str, Spread]


class OneWorkspace(BaseModel):
    """One workspace."""

    workspace: WorkspaceView


class BuildLog(BaseModel):
    """The end of a workspace's newest build log."""

    log: str


class Enrolment(BaseModel):
    """A one-time token with which a machine joins."""

    token: str


class NewTerminal(BaseModel):
    """A title is given if none is."""

    title: str = Field(default="", max_length=TITLE_CHARS_MAX)


class SessionOpening(BaseModel):
    """When a busy agent's conversation is opened: once it is `idle`, or `now`; else it is not."""

    when: When = ""


class TerminalChange(BaseModel):
    """What is to be different. Places count from 0, from left to right."""

    title: str | None = Field(default=None, max_length=TITLE_CHARS_MAX)
    position: int | None = Field(default=None, ge=0, le=10_000)


class Terminals(BaseModel):
    """From left to right."""

    terminals: Sequence[TerminalView]


class NewChat(BaseModel):
    """The first words of a chat. The same `key` opens one."""

    text: str = Field(min_length=1, max_length=TEXT_CHARS_MAX)
    key: str | None = Field(default=None, min_length=1, max_length=200)


class Chats(BaseModel):
    """The conversation of the workspace's task, then its chats from left to right."""

    chats: Sequence[ChatView]


class Link(BaseModel):
    """A one-time link that is opened in a browser. `url` is empty where nobody knows the host."""

    path: str
    url: str


class Health(BaseModel):
    """The process answers; whether its periodic jobs are done, too."""

    status: Literal["ok", "ailing"]
    silent_sweeps: Sequence[str]


def words(
    text: str, *, surface: str, key: str | None, thread: ThreadId | None = None, **more: Any
) -> Words:
    """Return what was said here. Without a key every call is a new message."""
    key = key or secrets.token_hex(16)
    return Words(
        key=f"{surface}:{key}",
        surface=surface,
        channel="chat",
        message=key,
        text=text,
        thread=thread,
        **more,
    )


@router.get("/health")
async def health(commands: Injected) -> Health:
    """Answer while the process lives. Needs no sign-in."""
    silent = commands.silent_sweeps()
    return Health(status="ailing" if silent else "ok", silent_sweeps=silent)


@router.post("/tasks", status_code=202)
async def ask_for_task(
    body: NewTask, actor: Actor, commands: Injected, surface: Surface
) -> Receipt:
    """Ask for a task. It is stored when this returns; a worker does the rest."""
    project = ProjectId(body.project) if body.project else None
    said = words(body.text, surface=surface, key=body.key, project=project)
    return Receipt.of(await commands.say(actor, said))


@router.get("/tasks")
async def list_tasks(
    actor: Actor,
    commands: Injected,
    project: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Tasks:
    """Return the newest tasks."""
    chosen = ProjectId(project) if project else None
    return Tasks(tasks=await commands.tasks(actor, project=chosen, limit=limit))


@router.get("/tasks/{task_id}")
async def show_task(task_id: str, actor: Actor, commands: Injected) -> TaskView:
    """Return one task. 404 also when the asker may not know that it exists."""
    return await commands.task(actor, TaskId(task_id))


@router.post("/tasks/{task_id}/replies", status_code=202)
async def reply(
    task_id: str, body: Reply, actor: Actor, commands: Injected, surface: Surface
) -> Receipt:
    """Say something in a task's thread."""
    view = await commands.task(actor, TaskId(task_id))
    said = words(
        body.text, surface=surface, key=body.key, thread=view.thread, when_idle=body.when_idle
    )
    return Receipt.of(await commands.say(actor, said))


@router.post("/tasks/{task_id}/stop", status_code=204)
async def stop_task(task_id: str, actor: Actor, commands: Injected) -> None:
    """Stop a task; what was done is kept."""
    await commands.stop(actor, TaskId(task_id))


@router.post("/decisions/{decision_id:path}/answer", status_code=204)
async def answer_decision(
    decision_id: str, body: Answer, actor: Actor, commands: Injected, surface: Surface
) -> None:
    """Answer a question, permission, plan or budget. The first answer wins; later ones get 400."""
    await commands.answer(
        actor, DecisionId(decision_id), surface=surface, allow=body.allow, answers=body.answers
    )


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON, or with `Accept: text/event-stream` an endless stream that resumes "
        "by `Last-Event-ID`.",
        "content": {"text/event-stream": {}},
    }
}


@router.get("/tasks/{task_id}/events", response_model=Events, responses=_STREAM)
async def task_events(
    *,
    request: Request,
    task_id: str,
    actor: Actor,
    commands: Injected,
    live: Reader,
    after: After = 0,
    limit: Limit = LIMIT,
) -> Events | Response:
    """Return the facts of a task past `after`, oldest first."""
    task = TaskId(task_id)
    if _wants_stream(request):
        await commands.task(actor, task)
        return EventStream(live, FactsViewer(live, task, _offset(request, after)))
    return Events(events=await commands.events(actor, after=after, limit=limit, task=task))


@router.get("/sessions/{session_id}/events", response_class=Response, responses=_STREAM)
async def session_events(
    *,
    request: Request,
    session_id: str,
    actor: Actor,
    commands: Injected,
    live: Reader,
    after: After = -1,
    limit: Limit = LIMIT,
) -> Response:
    """Return what a coding agent did past offset `after`, oldest first: `{"events": […]}`."""
    session = SessionId(session_id)
    events = await commands.session_events(actor, session, after=after, limit=limit)
    if _wants_stream(request):
        return EventStream(live, SessionViewer(live, event_json, session, _offset(request, after)))
    body = json.dumps({"events": [to_json(event) for event in events]})
    return Response(body, media_type="application/json")


def _wants_stream(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _offset(request: Request, after: int) -> int:
    """Return where to go on.

    Raises:
        UserError: If Last-Event-ID is not one of ours.
    """
    seen = resume_point(request)
    if not seen:
        return after
    if not seen.lstrip("-").isdecimal() or len(seen) > 19:
        raise UserError("Last-Event-ID is not a number that came from here.")
    return int(seen)


@router.get("/projects")
async def list_projects(actor: Actor, commands: Injected) -> Projects:
    """Return the projects that the asker may see."""
    return Projects(projects=await commands.projects(actor))


@router.get("/projects/{project_id}/starts")
async def list_starts(project_id: str, actor: Actor, commands: Injected) -> Starts:
    """Return how a project's last workspaces started, newest first, and what is usual."""
    starts = await commands.starts(actor, ProjectId(project_id))
    return Starts(starts=starts, usual=usual_of(starts))


@router.get("/nodes")
async def list_nodes(actor: Actor, commands: Injected) -> Nodes:
    """Return the machines that are not gone."""
    return Nodes(nodes=await commands.nodes(actor))


@router.post("/nodes/enrolments", status_code=201)
async def enrol_node(actor: Actor, commands: Injected) -> Enrolment:
    """Return a new one-time token with which a machine joins."""
    return Enrolment(token=await commands.enrolment(actor))


@router.delete("/nodes/{node_id}", status_code=204)
async def delete_node(node_id: str, actor: Actor, commands: Injected) -> None:
    """Drain a machine and let it go."""
    await commands.delete_node(actor, NodeId(node_id))


@router.get("/workspaces")
async def list_workspaces(actor: Actor, commands: Injected) -> Workspaces:
    """Return the workspaces that are not gone."""
    return Workspaces(workspaces=await commands.workspaces(actor))


@router.get("/workspaces/{workspace_id}")
async def show_workspace(workspace_id: str, actor: Actor, commands: Injected) -> OneWorkspace:
    """Return one workspace, also one that is gone."""
    return OneWorkspace(workspace=await commands.workspace(actor, WorkspaceId(workspace_id)))


@router.get("/workspaces/{workspace_id}/log")
async def build_log(workspace_id: str, actor: Actor, commands: Injected) -> BuildLog:
    """Return the newest build log of a workspace. 400 if its machine does not answer."""
    return BuildLog(log=await commands.build_log(actor, WorkspaceId(workspace_id)))


async def find_workspace(commands: Commands, actor: Actor, workspace_id: str) -> WorkspaceView:
    """Return one workspace.

    Raises:
        NotFoundError: If there is none of that name, or no longer.
    """
    for workspace in await commands.workspaces(actor):
        if workspace.id == workspace_id:
            return workspace
    raise NotFoundError(f"There is no workspace {workspace_id:.40}, or it is gone.")


@router.delete("/workspaces/{workspace_id}", status_code=204)
async def delete_workspace(
    workspace_id: str, actor: Actor, commands: Injected, *, without_copy: bool = False
) -> None:
    """Remove a workspace that no run works in. A copy is made first, but for `without_copy`."""
    workspace = WorkspaceId(workspace_id)
    await commands.delete_workspace(actor, workspace, without_copy=without_copy)


@router.post("/workspaces/{workspace_id}/links", status_code=201)
async def workspace_link(
    request: Request, workspace_id: str, actor: Actor, commands: Injected
) -> Link:
    """Return a one-time link by which the asker enters a workspace; good for a minute."""
    return link_to(request, await commands.workspace_link(actor, WorkspaceId(workspace_id)))


@router.get("/workspaces/{workspace_id}/terminals")
async def list_terminals(workspace_id: str, actor: Actor, commands: Injected) -> Terminals:
    """Return the tabs of a workspace."""
    return Terminals(terminals=await commands.terminals(actor, WorkspaceId(workspace_id)))


@router.post("/workspaces/{workspace_id}/terminals", status_code=201)
async def open_terminal(
    workspace_id: str, body: NewTerminal, actor: Actor, commands: Injected
) -> TerminalView:
    """Open a shell. It is `opening` until its machine has it; looking at it waits for that."""
    return await commands.open_terminal(actor, WorkspaceId(workspace_id), title=body.title)


@router.post("/sessions/{session_id}/terminal", status_code=201)
async def open_session(
    session_id: str, body: SessionOpening, actor: Actor, commands: Injected
) -> TerminalView:
    """Leave an agent's conversation to a terminal. It is `waiting` until the agent is idle."""
    return await commands.open_session(actor, SessionId(session_id), when=body.when)


@router.delete("/sessions/{session_id}/terminal", status_code=204)
async def return_session(session_id: str, actor: Actor, commands: Injected) -> None:
    """Give an agent's conversation back to its thread. Given back already is fine."""
    await commands.return_session(actor, SessionId(session_id))


@router.patch("/terminals/{terminal_id}", status_code=204)
async def change_terminal(
    terminal_id: str, body: TerminalChange, actor: Actor, commands: Injected
) -> None:
    """Give a tab another title or another place."""
    await commands.change_terminal(
        actor, TerminalId(terminal_id), title=body.title, position=body.position
    )


@router.delete("/terminals/{terminal_id}", status_code=204)
async def close_terminal(terminal_id: str, actor: Actor, commands: Injected) -> None:
    """End what runs in a terminal and take its tab away. Closed already is fine."""
    await commands.close_terminal(actor, TerminalId(terminal_id))


@router.get("/workspaces/{workspace_id}/chats")
async def list_chats(workspace_id: str, actor: Actor, commands: Injected) -> Chats:
    """Return the conversations of a workspace."""
    return Chats(chats=await commands.chats(actor, WorkspaceId(workspace_id)))


@router.post("/workspaces/{workspace_id}/chats", status_code=201)
async def open_chat(
    workspace_id: str, body: NewChat, actor: Actor, commands: Injected, surface: Surface
) -> ChatView:
    """Open a chat. It is a task: go on with that one's replies, stop and events."""
    key = body.key or secrets.token_hex(16)
    workspace = WorkspaceId(workspace_id)
    return await commands.new_chat(actor, workspace, body.text, surface=surface, key=key)


@router.patch("/chats/{chat_id}", status_code=204)
async def change_chat(chat_id: str, body: TerminalChange, actor: Actor, commands: Injected) -> None:
    """Give a chat's tab another title or another place."""
    await commands.change_chat(actor, TaskId(chat_id), title=body.title, position=body.position)


@router.delete("/chats/{chat_id}", status_code=204)
async def close_chat(chat_id: str, actor: Actor, commands: Injected) -> None:
    """End a chat and take its tab away. Closed already is fine."""
    await commands.close_chat(actor, TaskId(chat_id))


@router.websocket("/terminals/{terminal_id}/view")
async def view_terminal(
    socket: WebSocket, terminal_id: str, commands: Injected, *, read_only: bool = False
) -> None:
    """Look at a terminal, and type in it. The frames are those of `core.viewing`.

    With `read_only` whoever asks is taken for somebody who may only look.
    """
    try:
        actor = await who(socket)
    except AppError as error:
        said = refusal(socket.scope, status_of(error), error.code, str(error))
        await socket.send_denial_response(said)
    else:
        seen = replace(actor, role="viewer") if read_only else actor

        async def may_look() -> bool:
            try:
                return await who(socket) == actor
            except OutsideError:  # Nobody can tell now: it is asked again soon.
                return True
            except AppError:
                return False

        await show(socket, lambda: commands.view_terminal(seen, TerminalId(terminal_id)), may_look)


@router.post("/sign-in-links", status_code=201)
async def sign_in_link(request: Request, actor: Actor, commands: Injected) -> Link:
    """Return a one-time link with which the asker signs in to the pages."""
    return link_to(request, await commands.sign_in_link(actor))


def link_to(request: Request, path: str) -> Link:
    """Return a link to one of our own paths."""
    public_url: str = request.app.state.public_url
    return Link(path=path, url=f"{public_url.rstrip('/')}{path}" if public_url else "")
