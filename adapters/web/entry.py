"""Ways from the pages into a workspace: a link that was sent, or a button.

A link is spent by a press of a button: programs that look at links in chats neither open it nor
use it up. It acts as its person; where somebody else is signed in it is refused. What is in the
address of this page stays with us: `Referrer-Policy: same-origin`, as its form needs its Origin
(see `shield.HEADERS`).
"""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapters.web import render
from adapters.web.api import Injected
from adapters.web.auth import Actor, Door
from adapters.web.hosts import Hosts
from adapters.web.problems import HOME, DeletedError
from core.access import Person
from core.errors import UserError
from core.ids import WorkspaceId
from core.ports.commands import Doors, Guest

LINK_CHARS_MAX = 500
OVER = "This link was used already, or its time is up. A link works once, for a minute."

router = APIRouter()


@router.api_route("/enter", methods=["GET", "HEAD"])
async def entrance(request: Request, link: str = "") -> Response:
    """Show whom a link lets in where. Spends nothing."""
    doors: Doors = request.app.state.doors
    guest = await doors.whose(link[:LINK_CHARS_MAX]) if link else None
    if guest is None:
        return _refused(OVER)
    stranger = await _other(request, guest)
    if stranger is not None:
        return _refused(_is_anothers(guest, stranger))
    return HTMLResponse(
        render.page(
            "enter.html",
            person=None,
            guest=guest,
            link=link,
            can_enter=bool(request.app.state.hosts.domain),
        )
    )


@router.post("/enter")
async def enter(
    request: Request, link: Annotated[str, Form(max_length=LINK_CHARS_MAX)] = ""
) -> Response:
    """Spend a link and go to the workspace."""
    doors: Doors = request.app.state.doors
    guest = await doors.whose(link) if link else None
    if guest is None:
        return _refused(OVER)
    stranger = await _other(request, guest)
    if stranger is not None:
        return _refused(_is_anothers(guest, stranger))
    handed = await doors.spend(link)
    return _refused(OVER) if handed is None else over_to(request, guest.workspace, handed)


@router.post("/workspaces/{workspace_id}/enter")
async def enter_signed_in(
    request: Request, workspace_id: str, actor: Actor, commands: Injected
) -> Response:
    """Go to a workspace's terminals."""
    workspace = await commands.workspace(actor, WorkspaceId(workspace_id))
    if workspace.state in {"deleting", "gone"}:
        request.scope[HOME] = ("/copies", "Rescue copies")
        raise DeletedError.of(workspace)
    doors: Doors = request.app.state.doors
    return over_to(request, workspace.id, await doors.hand_over(actor, workspace.id))


async def _other(request: Request, guest: Guest) -> Person | None:
    """Return who is signed in here, if it is not the guest."""
    door: Door = request.app.state.door
    person = await door.anybody(request)
    return person if person is not None and person.id != guest.person.id else None


def _is_anothers(guest: Guest, stranger: Person) -> str:
    return (
        f"This link is for {guest.person.name}, and {stranger.name} is signed in here. "
        "It was not used up."
    )


def over_to(
    request: Request, workspace: WorkspaceId, handed: str, *, terminal: str = ""
) -> Response:
    """Lead a browser into a workspace with a pass, to one of its terminals if one is named.

    Raises:
        UserError: Workspaces have no addresses here.
    """
    hosts = addresses(request)
    place = f"#{quote(terminal)}" if terminal else ""
    return RedirectResponse(f"{hosts.origin(workspace)}/enter?handed={quote(handed)}{place}", 303)


def addresses(request: Request) -> Hosts:
    """Return which names are whose, for somebody who is to be led into a workspace.

    Raises:
        UserError: Workspaces have no addresses here.
    """
    hosts: Hosts = request.app.state.hosts
    if not hosts.domain:
        raise UserError(
            "Workspaces have no addresses here. Whoever runs Samovar sets [server] domain.",
            code="no_domain",
        )
    return hosts


def _refused(why: str) -> Response:
    html = render.page("enter.html", person=None, guest=None, why=why)
    return HTMLResponse(html, 403)
