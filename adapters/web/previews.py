"""Pages about previews: what listens, who sees it, links, and the ways in.

A link is spent by a press of a button, so programs that look at links in chats use none up. It
opens one port to whoever has it; no sign-in is needed.
"""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapters.web.api import Injected
from adapters.web.auth import Actor
from adapters.web.entry import addresses
from adapters.web.hosts import Hosts
from adapters.web.preview.site import ENTER, is_path
from adapters.web.preview_api import Asked
from adapters.web.render import page
from core.errors import UserError
from core.ids import WorkspaceId
from core.ports.previews import PreviewView
from core.preview import Audience

LINK_CHARS_MAX = 500
HOURS = 24
OVER = "This link was used already, or its time is up. A link works once."

router = APIRouter()


@router.get("/workspaces/{workspace_id}/ports")
async def ports(
    *, request: Request, workspace_id: str, actor: Actor, previews: Asked, part: bool = False
) -> Response:
    """Show what listens; with `part`, as a script puts it into the workspace's page."""
    workspace = WorkspaceId(workspace_id)
    shown: list[PreviewView] = []
    error = ""
    try:
        shown = list(await previews.ports(actor, workspace))
    except UserError as refused:
        error = str(refused)
    hosts: Hosts = request.app.state.hosts
    shape = "ports.html" if part else "ports_page.html"
    html = page(shape, person=actor, workspace=workspace, ports=shown, error=error, hosts=hosts)
    return HTMLResponse(html)


@router.get("/workspaces/{workspace_id}/previews/{port}")
async def preview_page(
    *,
    request: Request,
    workspace_id: str,
    port: int,
    actor: Actor,
    previews: Asked,
    commands: Injected,
    to: str = "/",
) -> Response:
    """Show one port: whether something listens there, who sees it, how to open it."""
    workspace = await commands.workspace(actor, WorkspaceId(workspace_id))
    view = await previews.port(actor, workspace.id, port)
    return _page(request, view, person=actor, state=workspace.state, to=to)


@router.post("/workspaces/{workspace_id}/previews/{port}/enter")
async def enter(
    *,
    request: Request,
    workspace_id: str,
    port: int,
    actor: Actor,
    previews: Asked,
    to: Annotated[str, Form()] = "/",
) -> Response:
    """Go to a preview."""
    workspace = WorkspaceId(workspace_id)
    handed = await previews.hand_over(actor, workspace, port)
    return _over_to(request, workspace, port, handed, to=to)


@router.post("/workspaces/{workspace_id}/previews/{port}/audience")
async def open_to(
    workspace_id: str,
    port: int,
    actor: Actor,
    previews: Asked,
    audience: Annotated[Audience, Form()],
) -> Response:
    """Say who sees a preview."""
    await previews.open_to(actor, WorkspaceId(workspace_id), port, audience)
    return RedirectResponse(f"/workspaces/{quote(workspace_id)}/previews/{port}", 303)


@router.post("/workspaces/{workspace_id}/previews/{port}/links")
async def share(
    *,
    request: Request,
    workspace_id: str,
    port: int,
    actor: Actor,
    previews: Asked,
    commands: Injected,
    hours: Annotated[int, Form()] = HOURS,
) -> Response:
    """Make a link. It is on this answer and nowhere else."""
    workspace = await commands.workspace(actor, WorkspaceId(workspace_id))
    path = await previews.share(actor, workspace.id, port, hours=hours)
    view = await previews.port(actor, workspace.id, port)
    link = f"{request.app.state.public_url.rstrip('/')}{path}"
    return _page(request, view, person=actor, state=workspace.state, link=link, hours=hours)


@router.api_route("/preview", methods=["GET", "HEAD"])
async def entrance(previews: Asked, link: str = "") -> Response:
    """Show where a link leads. Spends nothing."""
    visit = await previews.whose(link[:LINK_CHARS_MAX]) if link else None
    if visit is None:
        return _refused()
    return HTMLResponse(page("preview_enter.html", person=None, visit=visit, link=link))


@router.post("/preview")
async def enter_by_link(
    request: Request,
    previews: Asked,
    link: Annotated[str, Form(max_length=LINK_CHARS_MAX)] = "",
) -> Response:
    """Spend a link and go to the preview."""
    visit = await previews.whose(link) if link else None
    handed = await previews.spend(link) if visit is not None else None
    if visit is None or handed is None:
        return _refused()
    return _over_to(request, visit.workspace, visit.port, handed)


def _page(
    request: Request, view: PreviewView, *, to: str = "/", link: str = "", **more: object
) -> Response:
    hosts: Hosts = request.app.state.hosts
    origin = hosts.preview(view.workspace_id, view.port) if hosts.domain else ""
    to = to if is_path(to) else "/"
    return HTMLResponse(page("preview.html", view=view, origin=origin, to=to, link=link, **more))


def _over_to(
    request: Request, workspace: WorkspaceId, port: int, handed: str, *, to: str = "/"
) -> Response:
    hosts = addresses(request)
    asked = f"handed={quote(handed)}&to={quote(to, safe='')}"
    return RedirectResponse(f"{hosts.preview(workspace, port)}{ENTER}?{asked}", 303)


def _refused() -> Response:
    html = page("preview_enter.html", person=None, visit=None, link="", why=OVER)
    return HTMLResponse(html, 403)
