"""The JSON API of previews and of files: what listens, who sees it; files in and out."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response, StreamingResponse

from adapters.web.api import Injected, Link, link_to
from adapters.web.auth import Actor
from adapters.web.browse import begun
from core.browse import Listing
from core.errors import UserError
from core.ids import WorkspaceId
from core.ports.previews import Previews
from core.preview import LINK_HOURS_MAX, Audience

REST_BYTES_MAX = 64 * 1024 * 1024
"""Of a file that was refused so much is read and dropped: the answer reaches whoever sends."""

router = APIRouter()


class Port(BaseModel):
    """What listens on a port. `url` is where people open it; empty where nobody knows the host."""

    port: int
    name: str
    audience: Audience
    url: str


class Ports(BaseModel):
    """What listens in a workspace now, by port."""

    ports: Sequence[Port]


class PreviewChange(BaseModel):
    """Who sees a preview by signing in."""

    audience: Audience


class NewLink(BaseModel):
    """For how long whoever uses the link may look."""

    hours: int = Field(default=24, ge=1, le=LINK_HOURS_MAX)


async def _previews(connection: HTTPConnection) -> Previews:
    previews: Previews = connection.app.state.previews
    return previews


Asked = Annotated[Previews, Depends(_previews)]


@router.get("/workspaces/{workspace_id}/ports")
async def list_ports(request: Request, workspace_id: str, actor: Actor, previews: Asked) -> Ports:
    """Return what listens in a workspace and may be seen. 400 if its machine does not answer."""
    public_url: str = request.app.state.public_url
    base = f"{public_url.rstrip('/')}/workspaces/{quote(workspace_id)}/previews"
    return Ports(
        ports=[
            Port(
                port=one.port,
                name=one.name,
                audience=one.audience,
                url=f"{base}/{one.port}" if public_url else "",
            )
            for one in await previews.ports(actor, WorkspaceId(workspace_id))
        ]
    )


@router.patch("/workspaces/{workspace_id}/ports/{port}", status_code=204)
async def change_preview(
    workspace_id: str, port: int, body: PreviewChange, actor: Actor, previews: Asked
) -> None:
    """Say who sees a preview. `owner` also ends every link."""
    await previews.open_to(actor, WorkspaceId(workspace_id), port, body.audience)


@router.post("/workspaces/{workspace_id}/ports/{port}/links", status_code=201)
async def preview_link(
    *,
    request: Request,
    workspace_id: str,
    port: int,
    body: NewLink,
    actor: Actor,
    previews: Asked,
) -> Link:
    """Return a link that shows a port to whoever uses it, once, without signing in."""
    path = await previews.share(actor, WorkspaceId(workspace_id), port, hours=body.hours)
    return link_to(request, path)


@router.get("/workspaces/{workspace_id}/folders/{path:path}")
async def folder(workspace_id: str, path: str, actor: Actor, commands: Injected) -> Listing:
    """Return what is in a folder. Paths are percent-encoded, and once more in the address."""
    return await commands.folder(actor, WorkspaceId(workspace_id), path)


@router.get("/workspaces/{workspace_id}/files/{path:path}", response_class=StreamingResponse)
async def get_file(workspace_id: str, path: str, actor: Actor, commands: Injected) -> Response:
    """Return a file as it is."""
    chunks = commands.file(actor, WorkspaceId(workspace_id), path)
    body = await begun(chunks)

    headers = {"Content-Disposition": "attachment"}
    return StreamingResponse(body, media_type="application/octet-stream", headers=headers)


@router.put("/workspaces/{workspace_id}/files/{path:path}", status_code=204)
async def put_file(
    *,
    request: Request,
    workspace_id: str,
    path: str,
    actor: Actor,
    commands: Injected,
    replaces: bool = False,
) -> None:
    """Write a file, whole or not at all: the body is what is in it.

    400 `file_exists` if one is there, unless `replaces` is true. A request that was cut leaves
    nothing behind.
    """
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else -1
    try:
        await commands.put_file(
            *(actor, WorkspaceId(workspace_id), path, request.stream()),
            size_bytes=size,
            replaces=replaces,
        )
    except ClientDisconnect:
        return
    except UserError:
        await _drop_rest(request)
        raise


async def _drop_rest(request: Request) -> None:
    """Take what still comes, unless it waits for our word (RFC 9110, 10.1.1).

    Browsers hear of a refusal when they have sent all.
    """
    dropped = 0
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    with suppress(ClientDisconnect, RuntimeError):  # The latter if all was read already.
        async for chunk in request.stream():
            dropped += len(chunk)
            if dropped > REST_BYTES_MAX:
                return
