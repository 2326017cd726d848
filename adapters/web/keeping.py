"""Whole workspaces: made by hand, stopped, put back, made anew; and rescue copies."""

import secrets
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, Response

from adapters.web import render
from adapters.web.api import Injected, OneWorkspace
from adapters.web.auth import Actor
from adapters.web.pages import done
from core.ids import CopyId, ProjectId, WorkspaceId
from core.ports.commands import CopyView, WorkspaceView

NAME_CHARS_MAX = 200
KEPT = "Its repository's folder, conversations and terminals' histories"

api = APIRouter()
pages = APIRouter()
Name = Annotated[str, Form(max_length=NAME_CHARS_MAX)]


class NewWorkspace(BaseModel):
    """What is to be made. The same `key` is handled once; size and branch have defaults."""

    project: str = Field(min_length=1, max_length=100)
    size: str = Field(default="", max_length=20)
    branch: str = Field(default="", max_length=NAME_CHARS_MAX)
    key: str = Field(default="", max_length=NAME_CHARS_MAX)


class Restoring(BaseModel):
    """The same `key` is handled once."""

    key: str = Field(default="", max_length=NAME_CHARS_MAX)


class Copies(BaseModel):
    """Rescue copies that can be restored, newest first."""

    copies: Sequence[CopyView]


@api.post("/workspaces", status_code=202)
async def new_workspace(body: NewWorkspace, actor: Actor, commands: Injected) -> OneWorkspace:
    """Make a workspace without a task. It is stored when this returns; a worker does the rest."""
    made = await commands.new_workspace(
        actor, ProjectId(body.project), size=body.size, branch=body.branch, key=body.key
    )
    return OneWorkspace(workspace=made)


@api.post("/workspaces/{workspace_id}/stop", status_code=204)
async def stop_workspace(workspace_id: str, actor: Actor, commands: Injected) -> None:
    """Save a workspace and let its machine go. 400 while a run works in it."""
    await commands.stop_workspace(actor, WorkspaceId(workspace_id))


@api.post("/workspaces/{workspace_id}/restart", status_code=204)
async def restart_workspace(workspace_id: str, actor: Actor, commands: Injected) -> None:
    """Put a stopped workspace back on a machine."""
    await commands.restart_workspace(actor, WorkspaceId(workspace_id))


@api.post("/workspaces/{workspace_id}/rebuild", status_code=204)
async def rebuild_workspace(workspace_id: str, actor: Actor, commands: Injected) -> None:
    """Make the container of a ready workspace anew; its files stay."""
    await commands.rebuild_workspace(actor, WorkspaceId(workspace_id))


@api.get("/rescue-copies")
async def list_copies(actor: Actor, commands: Injected) -> Copies:
    """Return the rescue copies that can be restored."""
    return Copies(copies=await commands.copies(actor))


@api.post("/rescue-copies/{copy_id}/restore", status_code=202)
async def restore_copy(
    copy_id: str, body: Restoring, actor: Actor, commands: Injected
) -> OneWorkspace:
    """Make a new workspace from a rescue copy."""
    return OneWorkspace(workspace=await commands.restore(actor, CopyId(copy_id), key=body.key))


def _to(request: Request, workspace: WorkspaceId, said: str) -> Response:
    return done(request, f"/workspaces/{quote(workspace)}", said=said)


def _coming(request: Request, made: WorkspaceView) -> Response:
    return _to(request, made.id, f"Workspace {made.id} is being made.")


@pages.post("/workspaces")
async def new_from_form(
    *,
    request: Request,
    actor: Actor,
    commands: Injected,
    project: Name = "",
    size: Name = "",
    branch: Name = "",
    key: Name = "",
) -> Response:
    """Make a workspace without a task."""
    made = await commands.new_workspace(
        actor, ProjectId(project), size=size, branch=branch.strip(), key=key
    )
    return _coming(request, made)


@pages.post("/workspaces/{workspace_id}/stop")
async def stop_from_form(
    request: Request, workspace_id: str, actor: Actor, commands: Injected
) -> Response:
    """Stop a workspace."""
    workspace = WorkspaceId(workspace_id)
    await commands.stop_workspace(actor, workspace)
    return _to(request, workspace, f"Stopping. {KEPT} are saved first.")


@pages.post("/workspaces/{workspace_id}/restart")
async def restart_from_form(
    request: Request, workspace_id: str, actor: Actor, commands: Injected
) -> Response:
    """Restart a workspace."""
    workspace = WorkspaceId(workspace_id)
    await commands.restart_workspace(actor, workspace)
    return _to(request, workspace, f"It starts again. {KEPT} come back.")


@pages.post("/workspaces/{workspace_id}/rebuild")
async def rebuild_from_form(
    request: Request, workspace_id: str, actor: Actor, commands: Injected
) -> Response:
    """Rebuild a workspace."""
    workspace = WorkspaceId(workspace_id)
    await commands.rebuild_workspace(actor, workspace)
    return _to(request, workspace, "Its container is made anew. Its files stay.")


@pages.get("/copies")
async def copies_page(actor: Actor, commands: Injected) -> Response:
    """Show the rescue copies."""
    copies = await commands.copies(actor)
    return HTMLResponse(
        render.page("copies.html", person=actor, copies=copies, key=secrets.token_hex(16))
    )


@pages.post("/copies/{copy_id}/restore")
async def restore_from_form(
    request: Request, copy_id: str, actor: Actor, commands: Injected, key: Name = ""
) -> Response:
    """Make a new workspace from a rescue copy."""
    return _coming(request, await commands.restore(actor, CopyId(copy_id), key=key))
