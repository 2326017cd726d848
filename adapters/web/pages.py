"""The pages: HTML by GET, forms by POST, live parts by server-sent events.

Forms work without scripts: a POST answers with a redirect. Our script sends the same forms and
asks for JSON, and gets what is to be said to the person.
"""

import secrets
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from adapters.system import SystemClock
from adapters.web import render
from adapters.web.answers import answers_in
from adapters.web.api import TEXT_CHARS_MAX, Injected, Reader, find_workspace, words
from adapters.web.auth import Actor, Door
from adapters.web.blocks import folded
from adapters.web.live import LIMIT
from adapters.web.plots import HEIGHT, WIDTH, plots
from adapters.web.problems import SignInNeededError, on_app_error, wants_json
from adapters.web.sources import sessions_of
from adapters.web.streams import BoardViewer, EventStream, TaskViewer, resume_point
from core.access import Person
from core.errors import NotFoundError, UserError
from core.ids import DecisionId, NodeId, ProjectId, SessionId, TaskId, WorkspaceId
from core.ledger import phases, usual_of
from core.ports.commands import Commands, Heard, RunLine, TaskView
from core.project import SIZES
from core.wire import SessionEvent

EVENTS_SHOWN = 200
"""Events of the newest run on a task's page; older ones on demand."""

router = APIRouter()

Text = Annotated[str, Form(max_length=TEXT_CHARS_MAX)]


def _html(name: str, person: Person | None, **values: object) -> HTMLResponse:
    return HTMLResponse(render.page(name, person=person, **values))


def done(request: Request, to: str, *, said: str = "") -> Response:
    """Answer a form: a script gets the remark, a browser goes on to `to`."""
    if wants_json(request.scope):
        return JSONResponse({"said": said})
    return RedirectResponse(to, 303)


@router.get("/")
async def chat(actor: Actor, commands: Injected, project: str = "", heard: str = "") -> Response:
    """Show the project chat: a box to ask for a task, and the newest tasks."""
    remark = f"Heard. {heard} will appear here in a moment." if _is_number(heard) else ""
    return await _chat(actor, commands, chosen=project, remark=remark)


@router.get("/new")
async def new(actor: Actor, commands: Injected, repo: str = "", prompt: str = "") -> Response:
    """Fill the box from a deep link. Nothing is sent before the person does."""
    projects = await commands.projects(actor)
    chosen = next((p.id for p in projects if repo and repo in {p.id, p.repository}), "")
    unknown = f"There is no project for {repo:.100}. Choose one." if repo and not chosen else ""
    return await _chat(
        actor, commands, chosen=chosen, prompt=prompt[:TEXT_CHARS_MAX], remark=unknown
    )


async def _chat(
    actor: Person, commands: Commands, *, chosen: str = "", prompt: str = "", remark: str = ""
) -> Response:
    projects = await commands.projects(actor)
    known = ProjectId(chosen) if chosen in {p.id for p in projects} else None
    if chosen and known is None and not remark:
        remark = f"There is no project {chosen:.100}. These are the tasks of all projects."
    cards = await commands.tasks(actor, project=known)
    return _html(
        "chat.html",
        actor,
        projects=projects,
        chosen=known or "",
        cards=cards,
        prompt=prompt,
        remark=remark,
        key=secrets.token_hex(16),
    )


def _is_number(text: str) -> bool:
    return text.startswith("T-") and text[2:].isdecimal() and len(text) < 20


@router.post("/tasks")
async def ask(
    *,
    request: Request,
    actor: Actor,
    commands: Injected,
    text: Text = "",
    project: Annotated[str, Form()] = "",
    key: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Ask for a task."""
    chosen = ProjectId(project) if project else None
    heard = await commands.say(actor, words(text, surface="web", key=key, project=chosen))
    known = f"&heard={quote(heard.task_id)}" if heard.task_id else ""
    return _answered(
        request, heard, f"/?project={quote(project)}{known}" if project else f"/?{known[1:]}"
    )


def _answered(request: Request, heard: Heard, to: str) -> Response:
    if heard.said and not wants_json(request.scope):
        return _html("message.html", None, title="Heard", text=heard.said)
    return done(request, to, said=heard.said)


@router.get("/live")
async def live_board(actor: Actor, commands: Injected, live: Reader, project: str = "") -> Response:
    """Stream the cards of the newest tasks."""
    chosen = ProjectId(project) if project else None
    await commands.tasks(actor, project=chosen, limit=1)
    return EventStream(live, BoardViewer(live, chosen))


@router.get("/tasks/{task_id}")
async def task_page(task_id: str, actor: Actor, commands: Injected, live: Reader) -> Response:
    """Show one task: its card, its thread, what the coding agent does, a box to talk."""
    view = await commands.task(actor, TaskId(task_id))
    sessions = sessions_of(view)
    events: Sequence[SessionEvent] = ()
    has_more = False
    if sessions:
        events, has_more = await tail(commands, actor, sessions[-1])
    cursor = f"{sessions[-1]}:{events[-1].offset if events else -1}" if sessions else ""
    newest = next((run for run in reversed(view.runs) if run.session_id), None)
    return _html(
        "task.html",
        actor,
        view=view,
        card=[html for _, html in render.card_parts(live.offered(view.card))],
        stream=_merged(view, events),
        cursor=cursor,
        earlier=_earlier(newest, events) if has_more else "",
        key=secrets.token_hex(16),
        placeholder=_placeholder(view),
    )


def _placeholder(view: TaskView) -> str:
    if view.card.state in {"done", "failed", "cancelled"}:
        return "Ask for a change"
    return "Talk to the agent" if view.runs else "Add something"


def _merged(view: TaskView, events: Sequence[SessionEvent]) -> list[Markup]:
    """Return thread, runs and events as one conversation, by time."""
    parts: list[tuple[datetime, Markup]] = [
        (line.at, render.line_html(line, number))
        for number, line in enumerate(view.lines)
        if line.kind != "card"
    ]
    parts += [(run.created_at, render.run_html(run)) for run in view.runs]
    parts += [(shown.at, render.block_html(shown)) for shown in folded(events)]
    return [html for _, html in sorted(parts, key=lambda part: part[0])]


def _earlier(run: RunLine | None, events: Sequence[SessionEvent]) -> str:
    if run is None or not events:
        return ""
    return f"/runs/{quote(run.id)}?before={events[0].offset}"


async def tail(
    commands: Commands, actor: Person, session: SessionId, *, before: int | None = None
) -> tuple[Sequence[SessionEvent], bool]:
    """Return the last events (before an offset), and whether there are older ones.

    The port reads forward only, so this reads the session from its beginning.
    """
    kept: deque[SessionEvent] = deque(maxlen=EVENTS_SHOWN)
    count, after = 0, -1
    while True:
        events = await commands.session_events(actor, session, after=after, limit=LIMIT)
        wanted = [e for e in events if before is None or e.offset < before]
        kept.extend(wanted)
        count += len(wanted)
        if len(events) < LIMIT or len(wanted) < len(events):
            return list(kept), count > len(kept)
        after = events[-1].offset


@router.get("/runs/{run_id}")
async def run_page(
    run_id: str, actor: Actor, commands: Injected, before: int | None = None
) -> Response:
    """Show what the coding agent did in one run, its end first."""
    view = await commands.task(actor, TaskId(run_id.rpartition(".")[0]))
    run = next((run for run in view.runs if run.id == run_id), None)
    if run is None:
        raise NotFoundError(f"There is no run {run_id:.40}.")
    events: Sequence[SessionEvent] = ()
    has_more = False
    if run.session_id:
        events, has_more = await tail(commands, actor, run.session_id, before=before)
    return _html(
        "run.html",
        actor,
        view=view,
        run_id=run.id,
        stream=[render.block_html(shown) for shown in folded(events)],
        earlier=_earlier(run, events) if has_more else "",
    )


@router.get("/tasks/{task_id}/live")
async def live_task(
    request: Request, task_id: str, actor: Actor, commands: Injected, live: Reader
) -> Response:
    """Stream a task's card, thread and coding agent."""
    view = await commands.task(actor, TaskId(task_id))
    return EventStream(live, TaskViewer(live, view.card.task_id, resume_point(request)))


@router.post("/tasks/{task_id}/replies")
async def reply(
    *,
    request: Request,
    task_id: str,
    actor: Actor,
    commands: Injected,
    text: Text = "",
    when_idle: Annotated[str, Form()] = "",
    key: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Say something in a task's thread."""
    view = await commands.task(actor, TaskId(task_id))
    said = words(text, surface="web", key=key, thread=view.thread, when_idle=when_idle == "yes")
    return _answered(request, await commands.say(actor, said), f"/tasks/{quote(task_id)}#text")


@router.post("/tasks/{task_id}/stop")
async def stop(request: Request, task_id: str, actor: Actor, commands: Injected) -> Response:
    """Stop a task."""
    await commands.stop(actor, TaskId(task_id))
    return done(request, f"/tasks/{quote(task_id)}", said="Stopping. What was done is kept.")


@router.post("/tasks/{task_id}/answer")
async def answer(request: Request, task_id: str, actor: Actor, commands: Injected) -> Response:
    """Answer a question of the coding agent. Options come by number, own words as text."""
    form = await request.form(max_files=0)
    view = await commands.task(actor, TaskId(task_id))
    wanted = str(form.get("decision", ""))
    asked = next((q for q in view.card.questions if q.id == wanted), None)
    if asked is None:
        raise NotFoundError("That question is not there any more.")
    given = answers_in(form, asked.questions) if asked.questions else None
    allow = form.get("allow", "yes") != "no"
    await commands.answer(actor, DecisionId(asked.id), surface="web", allow=allow, answers=given)
    return done(request, f"/tasks/{quote(task_id)}")


@router.get("/nodes")
async def nodes_page(request: Request, actor: Actor, commands: Injected) -> Response:
    """Show the machines."""
    return await _nodes(request, actor, commands, token="")


async def _nodes(request: Request, actor: Person, commands: Commands, *, token: str) -> Response:
    return _html(
        "nodes.html",
        actor,
        nodes=await commands.nodes(actor),
        token=token,
        public_url=request.app.state.public_url,
    )


@router.post("/nodes/enrolments")
async def enrol(request: Request, actor: Actor, commands: Injected) -> Response:
    """Show a one-time token with which a machine joins. It is on this answer and nowhere else."""
    return await _nodes(request, actor, commands, token=await commands.enrolment(actor))


@router.post("/nodes/{node_id}/delete")
async def delete_node(request: Request, node_id: str, actor: Actor, commands: Injected) -> Response:
    """Drain a machine and let it go."""
    await commands.delete_node(actor, NodeId(node_id))
    return done(request, "/nodes")


@router.get("/workspaces")
async def workspaces_page(actor: Actor, commands: Injected, project: str = "") -> Response:
    """Show the workspaces, and a form for a new one."""
    return _html(
        "workspaces.html",
        actor,
        workspaces=await commands.workspaces(actor),
        projects=await commands.projects(actor),
        chosen=project,
        sizes=SIZES,
        key=secrets.token_hex(16),
    )


@router.get("/workspaces/{workspace_id}")
async def workspace_page(workspace_id: str, actor: Actor, commands: Injected) -> Response:
    """Show one workspace with its build log, or with why there is none."""
    workspace = await find_workspace(commands, actor, workspace_id)
    log, error = "", ""
    try:
        log = await commands.build_log(actor, workspace.id)
    except UserError as refused:
        error = str(refused)
    usual = usual_of(await commands.starts(actor, workspace.project))
    ledger = phases(
        workspace.steps,
        is_building=workspace.state == "building",
        now=SystemClock().now(),
        usual=usual,
    )
    chats = await commands.chats(actor, workspace.id)
    return _html(
        "workspace.html", actor, w=workspace, chats=chats, ledger=ledger, log=log, log_error=error
    )


@router.get("/projects/{project_id}/starts")
async def starts_page(project_id: str, actor: Actor, commands: Injected) -> Response:
    """Show how long the workspaces of a project took to start, phase by phase."""
    starts = await commands.starts(actor, ProjectId(project_id))
    return _html(
        "starts.html",
        actor,
        project=project_id,
        plots=plots(starts),
        count=len(starts),
        width=WIDTH,
        height=HEIGHT,
    )


@router.post("/workspaces/{workspace_id}/delete")
async def delete_workspace(
    *,
    request: Request,
    workspace_id: str,
    actor: Actor,
    commands: Injected,
    without_copy: Annotated[bool, Form()] = False,
) -> Response:
    """Remove a workspace."""
    workspace = WorkspaceId(workspace_id)
    await commands.delete_workspace(actor, workspace, without_copy=without_copy)
    return done(request, "/workspaces")


@router.get("/sign-in")
async def sign_in_page(token: Annotated[str, "one-time"] = "") -> Response:
    """Show the button that redeems a one-time link. Looking at it redeems nothing."""
    return _html("sign_in.html", None, token=token[:500], note="")


@router.post("/sign-in")
async def sign_in(request: Request, token: Annotated[str, Form(max_length=500)] = "") -> Response:
    """Redeem a one-time link."""
    door: Door = request.app.state.door
    cookie = await door.sign_in.redeem(token) if token else None
    if cookie is None:
        note = "This link was used already, or its time is up. Make a new one."
        answer = _html("sign_in.html", None, token="", note=note)
        answer.status_code = 403
        return answer
    welcome = RedirectResponse("/", 303)
    door.let_in(welcome, cookie)
    return welcome


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End this browser's session."""
    door: Door = request.app.state.door
    bye = RedirectResponse("/sign-in", 303)
    await door.let_out(request, bye)
    return bye


async def on_stranger(request: Request, error: Exception) -> Response:
    """Send whoever is not signed in to the page that says how; programs get the problem."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/sign-in", 303)
    assert isinstance(error, SignInNeededError)  # noqa: S101
    return await on_app_error(request, error)
