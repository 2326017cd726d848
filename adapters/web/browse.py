"""Pages of a workspace's files: folders, files, what has changed.

Paths in our own links are `core.browse`'s percent-encoded ones, encoded once more for the URL, so
that names that are no UTF-8 arrive as they are.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import quote, unquote_to_bytes

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from adapters.web.api import Injected
from adapters.web.auth import Actor
from adapters.web.diff import LINES_MAX, parsed
from adapters.web.highlight import coloured
from adapters.web.render import page
from core.access import Person
from core.browse import ENTRIES_MAX, SHOWN_BYTES_MAX, UPLOAD_BYTES_MAX, Listing
from core.ids import SessionId, WorkspaceId

router = APIRouter()

STATUS_MAX = 1000
"""Lines of `git status` that a page shows."""
BINARY_LOOK = 8000
"""git takes a file with a zero in its first 8,000 bytes for a binary one, and so do we."""


async def _html(template: str, person: Person, **values: object) -> Response:
    """Render in a thread: there may be thousands of lines."""
    return HTMLResponse(await asyncio.to_thread(page, template, person=person, **values))


async def begun(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Return the same, once it has begun: what is missing is said before an answer is."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncGenerator[bytes]:
        async with aclosing(chunks):
            yield first
            async for chunk in chunks:
                yield chunk

    return whole()


@router.get("/workspaces/{workspace_id}/files/{path:path}")
async def files_page(workspace_id: str, path: str, actor: Actor, commands: Injected) -> Response:
    """Show a folder, where `path` is empty or ends with a slash, else a file."""
    workspace = WorkspaceId(workspace_id)
    shown = {"workspace": workspace, "path": path, "crumbs": _crumbs(path)}
    if not path or path.endswith("/"):
        listing = await commands.folder(actor, workspace, path)
        entries = listing.entries[:ENTRIES_MAX]
        listing = Listing(entries=entries, is_cut=listing.is_cut or entries != listing.entries)
        return await _html(
            "folder.html",
            actor,
            listing=listing,
            readable=readable,
            names=json.dumps([entry.name for entry in entries]),
            most=UPLOAD_BYTES_MAX,
            **shown,
        )
    async with aclosing(commands.file(actor, workspace, path)) as chunks:
        data = await _beginning(chunks)
    is_cut = len(data) > SHOWN_BYTES_MAX
    data = data[:SHOWN_BYTES_MAX]
    is_binary = b"\0" in data[:BINARY_LOOK]
    text = "" if is_binary else data.decode("utf-8", "replace").removesuffix("\n")
    whole = text.count("\n")
    text = "\n".join(text.split("\n", LINES_MAX)[:LINES_MAX])
    is_cut = is_cut or whole >= LINES_MAX
    name = readable(path).rpartition("/")[2]
    lines = await asyncio.to_thread(coloured, name, text)
    return await _html(
        "file.html",
        actor,
        file=name,
        lines=lines,
        is_binary=is_binary,
        is_cut=is_cut,
        size=len(data),
        **shown,
    )


async def _beginning(chunks: AsyncGenerator[bytes]) -> bytes:
    taken = b""
    async for chunk in chunks:
        taken += chunk
        if len(taken) > SHOWN_BYTES_MAX:
            break
    return taken


def readable(path: str) -> str:
    """Return a percent-encoded path for people; what is no UTF-8 becomes a replacement sign."""
    return unquote_to_bytes(path).decode("utf-8", "replace")


def _crumbs(path: str) -> list[tuple[str, str]]:
    """Return the folders above, from the root: what people read, and the path."""
    parts = [part for part in path.split("/") if part]
    folders = parts if path.endswith("/") else parts[:-1]
    return [(readable(part), "/".join(parts[: n + 1]) + "/") for n, part in enumerate(folders)]


@router.get("/workspaces/{workspace_id}/download/{path:path}")
async def download(workspace_id: str, path: str, actor: Actor, commands: Injected) -> Response:
    """Send a file as it is. No browser shows it: what a workspace made is not our page."""
    chunks = commands.file(actor, WorkspaceId(workspace_id), path)
    body = await begun(chunks)

    name = quote(unquote_to_bytes(path).rpartition(b"/")[2])
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(body, media_type="application/octet-stream", headers=headers)


@router.get("/workspaces/{workspace_id}/changes")
async def changes_page(workspace_id: str, actor: Actor, commands: Injected) -> Response:
    """Show what differs from where the work started."""
    workspace = WorkspaceId(workspace_id)
    changes = await commands.changes(actor, workspace)
    files, is_cut = await asyncio.to_thread(parsed, changes.diff)
    return await _html(
        "changes.html",
        actor,
        workspace=workspace,
        base=changes.base,
        status=changes.status[:STATUS_MAX],
        unlisted=max(0, len(changes.status) - STATUS_MAX),
        files=files,
        is_cut=is_cut or changes.is_cut,
        readable=readable,
    )


@router.get("/sessions/{session_id}/file")
async def file_of_session(session_id: str, path: str, actor: Actor, commands: Injected) -> Response:
    """Go on to the page of a file that a coding agent named."""
    workspace, inside = await commands.locate(actor, SessionId(session_id), path)
    return RedirectResponse(f"/workspaces/{quote(workspace)}/files/{quote(inside)}", 303)
