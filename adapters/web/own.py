"""What a workspace's own origin serves: its terminals, to whoever has its cookie.

Nothing of the pages is here, and their cookie is not: a browser gets in with a pass, once, and
keeps a cookie that this host alone sees.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.requests import HTTPConnection
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.web import render
from adapters.web.files import mount_files
from adapters.web.handover import session_of
from adapters.web.hosts import WORKSPACE, Hosts
from adapters.web.live import READER, Live
from adapters.web.problems import (
    HANDLERS,
    HOME,
    DeletedError,
    SignInNeededError,
    StoppedError,
    on_app_error,
)
from adapters.web.shield import Shield, origin_of
from adapters.web.viewing import refuse, show
from core.access import may
from core.errors import AppError, NotFoundError, OutsideError
from core.ids import TerminalId, WorkspaceId
from core.ports.commands import Commands, Doors, Guest, TerminalView, When, WorkspaceView
from core.viewing import CLOSE_AWAY, CLOSE_MISSING

LIFE_S = 12 * 3600
"""How long the browser keeps the cookie; whether it is still good is decided behind `Doors`."""
TITLE_CHARS_MAX = 60

router = APIRouter()


def own_app(
    *,
    commands: Commands,
    doors: Doors,
    hosts: Hosts,
    xterm: Path | None,
    live: Live,
    more: Sequence[APIRouter],
) -> ASGIApp:
    """Return the app of all workspaces' origins; the scope says whose was asked for.

    Args:
        commands: What people can ask for.
        doors: Ways into workspaces.
        hosts: Which names are whose.
        xterm: Folder of xterm.js.
        live: Reads for live pages.
        more: What is there besides terminals.
    """
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        exception_handlers={**HANDLERS, SignInNeededError: _on_stranger},
    )
    app.state.commands, app.state.doors, app.state.hosts = commands, doors, hosts
    app.state.has_xterm, app.state.live = xterm is not None, live
    app.state.cookie = "samovar-workspace"
    if hosts.public_url.startswith("https:"):
        app.state.cookie = "__Host-samovar-workspace"
    for part in (router, *more):
        app.include_router(part)
    mount_files(app, xterm=xterm)

    async def shielded(scope: Scope, receive: Receive, send: Send) -> None:
        origin = hosts.origin(scope[WORKSPACE])
        shield = Shield(app, origin=origin, headers=headers_of(origin, hosts.public_url))
        await shield({**scope, HOME: (f"{hosts.public_url}/", "All tasks")}, receive, send)

    return shielded


def headers_of(origin: str, public_url: str) -> Mapping[str, str]:
    """Return what keeps a workspace's origin apart.

    xterm.js writes its measures and colours into `<style>` elements. It may be framed by the pages,
    and its chats by itself.
    """
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; "
        f"connect-src 'self' {origin.replace('http', 'ws', 1)}; base-uri 'none'; "
        f"form-action 'none'; frame-src 'self'; frame-ancestors 'self' {origin_of(public_url)}"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "X-Robots-Tag": "noindex",
    }


async def _present(request: HTTPConnection) -> WorkspaceView:
    """Return the workspace of this host.

    Raises:
        DeletedError: It was deleted.
        StoppedError: It is on no machine now.
    """
    workspace: WorkspaceId = request.scope[WORKSPACE]
    commands: Commands = request.app.state.commands
    found = await commands.workspace(READER, workspace)
    if found.state in {"deleting", "gone"}:
        request.scope[HOME] = (f"{request.app.state.hosts.public_url}/copies", "Rescue copies")
        raise DeletedError.of(found)
    if found.state == "stopped":
        at = f"{request.app.state.hosts.public_url}/workspaces/{workspace}"
        request.scope[HOME] = (at, "Restart it on its page")
        raise StoppedError(
            f"Workspace {workspace} is stopped. Its repository's folder, conversations and "
            "terminals' histories are kept and come back when it is restarted."
        )
    return found


Present = Annotated[WorkspaceView, Depends(_present)]


async def _guest(request: HTTPConnection, workspace: Present) -> Guest:
    """Return who asks.

    Raises:
        SignInNeededError: Nobody who may be here.
    """
    doors: Doors = request.app.state.doors
    cookie = request.cookies.get(request.app.state.cookie, "")
    guest = await doors.guest(cookie) if cookie else None
    if guest is None or guest.workspace != workspace.id:
        raise SignInNeededError(
            f"This browser is not in workspace {workspace.id}, or no longer. Press “Open terminal” "
            "on the workspace's page, or ask for a new link where you got this one."
        )
    return guest


async def _on_stranger(request: Request, error: Exception) -> Response:
    """Lead whoever is not in to where the door is."""
    pages, workspace = request.app.state.hosts.public_url, request.scope[WORKSPACE]
    request.scope[HOME] = (f"{pages}/workspaces/{workspace}", "The workspace's page")
    return await on_app_error(request, error)


async def _commands(request: HTTPConnection) -> Commands:
    commands: Commands = request.app.state.commands
    return commands


In = Annotated[Guest, Depends(_guest)]
Injected = Annotated[Commands, Depends(_commands)]


class Tab(BaseModel):
    """One terminal, as the page wants it."""

    id: str
    title: str
    state: str
    exit_code: int | None
    error: str
    is_agent: bool

    @classmethod
    def of(cls, view: TerminalView) -> "Tab":
        """Return what the page is told."""
        return cls(
            id=view.id,
            title=view.title,
            state=view.state,
            exit_code=view.exit_code,
            error=view.error,
            is_agent=view.session_id is not None,
        )


class Agent(BaseModel):
    """When a busy agent's conversation is opened: once it is `idle`, or `now`."""

    when: When = "idle"


class Change(BaseModel):
    """What is to be different; None leaves it."""

    title: str | None = Field(default=None, min_length=1, max_length=TITLE_CHARS_MAX)
    position: int | None = Field(default=None, ge=0, le=1000)


@router.get("/")
async def page(request: Request, workspace: Present, guest: In, commands: Injected) -> Response:
    """Show the terminals."""
    return HTMLResponse(
        render.page(
            "terminal.html",
            person=guest.person,
            workspace=workspace,
            pages=request.app.state.hosts.public_url,
            writes=may(guest.person, "steer"),
            has_agent=await _has_agent(commands, guest, workspace),
            has_xterm=request.app.state.has_xterm,
        )
    )


async def _has_agent(commands: Commands, guest: Guest, workspace: WorkspaceView) -> bool:
    if not workspace.task_id:
        return False
    card = (await commands.task(guest.person, workspace.task_id)).card
    return card.workspace_id == workspace.id and card.session_id is not None


@router.get("/enter")
async def enter(request: Request, workspace: Present, handed: str = "") -> Response:
    """Spend a pass for the cookie, and go where no secret is in the address."""
    doors: Doors = request.app.state.doors
    cookie = await doors.enter(handed[:500]) if handed else None
    guest = await doors.guest(cookie) if cookie else None
    welcome = RedirectResponse("/", 303)
    if cookie and guest is not None and guest.workspace == workspace.id:
        name: str = request.app.state.cookie
        welcome.set_cookie(
            name,
            cookie,
            max_age=LIFE_S,
            path="/",
            secure=name.startswith("__Host-"),
            httponly=True,
            samesite="lax",
        )
    return welcome


@router.get("/terminals")
async def tabs(workspace: Present, guest: In, commands: Injected) -> list[Tab]:
    """Return the tabs from left to right."""
    return [Tab.of(view) for view in await commands.terminals(guest.person, workspace.id)]


@router.post("/terminals", status_code=201)
async def open_tab(workspace: Present, guest: In, commands: Injected) -> Tab:
    """Open a shell."""
    return Tab.of(await commands.open_terminal(guest.person, workspace.id))


@router.post("/agent", status_code=201)
async def open_agent(wish: Agent, workspace: Present, guest: In, commands: Injected) -> Tab:
    """Leave the conversation of the agent that works here to a terminal."""
    session = await session_of(commands, guest.person, workspace.task_id)
    return Tab.of(await commands.open_session(guest.person, session, when=wish.when))


@router.patch("/terminals/{terminal_id}", status_code=204)
async def change_tab(
    terminal_id: str, change: Change, workspace: Present, guest: In, commands: Injected
) -> None:
    """Give a tab another title or place."""
    terminal = await _of(commands, guest, workspace.id, terminal_id)
    await commands.change_terminal(
        guest.person, terminal, title=change.title, position=change.position
    )


@router.delete("/terminals/{terminal_id}", status_code=204)
async def close_tab(terminal_id: str, workspace: Present, guest: In, commands: Injected) -> None:
    """End what runs in a terminal and take its tab away."""
    await commands.close_terminal(
        guest.person, await _of(commands, guest, workspace.id, terminal_id)
    )


async def _of(
    commands: Commands, guest: Guest, workspace: WorkspaceId, terminal: str
) -> TerminalId:
    """Return the terminal, which is this workspace's: its cookie opens no other's.

    Raises:
        NotFoundError: It is not here.
    """
    for view in await commands.terminals(guest.person, workspace):
        if view.id == terminal:
            return view.id
    raise NotFoundError("That terminal is not here any more.")


@router.websocket("/terminals/{terminal_id}")
async def view_tab(socket: WebSocket, terminal_id: str) -> None:
    """Carry frames of `core.viewing` between a browser and a terminal."""
    commands: Commands = socket.app.state.commands

    async def may_look() -> bool:
        try:
            await _guest(socket, await _present(socket))
        except OutsideError:  # Nobody can tell now: it is asked again soon.
            return True
        except AppError:
            return False
        return True

    try:
        workspace = await _present(socket)
        guest = await _guest(socket, workspace)
        terminal = await _of(commands, guest, workspace.id, terminal_id)
    except OutsideError as error:
        await refuse(socket, CLOSE_AWAY, str(error))
    except AppError as error:
        await refuse(socket, CLOSE_MISSING, str(error))
    else:
        await show(socket, lambda: commands.view_terminal(guest.person, terminal), may_look)
