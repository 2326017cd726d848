"""Recordings: pages that play them, and the JSON API.

What a workspace wrote is data here: it is drawn by the player, and no browser shows it as a page.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from adapters.web import render
from adapters.web.api import OFFSET_MAX, Injected
from adapters.web.auth import Actor
from adapters.web.browse import begun
from adapters.web.shield import HEADERS
from core.ids import RecordingId, SessionId, TaskId
from core.ports.commands import RecordingView

CAST_TYPE = "application/x-asciicast"
SPEEDS = (0.5, 1, 2, 4, 8, 16)
_POLICY = "Content-Security-Policy"
PLAYING: Mapping[str, str] = {
    _POLICY: "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; " + HEADERS[_POLICY].partition("; ")[2]
}
"""The player is compiled to WebAssembly, and writes its measures into styles."""

pages = APIRouter()
api = APIRouter()


class Recordings(BaseModel):
    """Oldest first."""

    recordings: Sequence[RecordingView]


@api.get("/tasks/{task_id}/recordings")
async def list_recordings(task_id: str, actor: Actor, commands: Injected) -> Recordings:
    """Return what can be watched again of a task."""
    return Recordings(recordings=await commands.recordings(actor, TaskId(task_id)))


@api.get("/recordings/{recording_id}")
async def show_recording(recording_id: str, actor: Actor, commands: Injected) -> RecordingView:
    """Return one recording."""
    return await commands.recording(actor, RecordingId(recording_id))


@api.get(
    "/recordings/{recording_id}/cast",
    response_class=Response,
    responses={200: {"description": "An asciicast, version 2.", "content": {CAST_TYPE: {}}}},
)
async def cast(recording_id: str, actor: Actor, commands: Injected) -> Response:
    """Return a recording as an asciicast; one that is live, up to now."""
    chunks = commands.film(actor, RecordingId(recording_id))
    body = await begun(chunks)

    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(recording_id)}.cast",
        _POLICY: "sandbox; default-src 'none'",
    }
    return StreamingResponse(body, media_type=CAST_TYPE, headers=headers)


@pages.get("/tasks/{task_id}/recordings")
async def recordings_page(task_id: str, actor: Actor, commands: Injected) -> Response:
    """Show what can be watched again of a task."""
    found = await commands.recordings(actor, TaskId(task_id))
    return HTMLResponse(
        render.page("recordings.html", person=actor, task_id=task_id, recordings=found)
    )


@pages.get("/recordings/{recording_id}")
async def recording_page(
    *,
    request: Request,
    recording_id: str,
    actor: Actor,
    commands: Injected,
    at: Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)] = 0,
    event: Annotated[int | None, Query(ge=0, le=OFFSET_MAX)] = None,
) -> Response:
    """Play a recording from second `at` on; an `event` of a session leads to its second."""
    recording = RecordingId(recording_id)
    if event is not None:
        second = await commands.moment(actor, SessionId(recording_id), event)
        return RedirectResponse(f"/recordings/{quote(recording_id)}?at={second:g}", 303)
    html = render.page(
        "recording.html",
        person=actor,
        recording=await commands.recording(actor, recording),
        at=at,
        speeds=SPEEDS,
        has_player=request.app.state.has_player,
    )
    return HTMLResponse(html, headers=PLAYING)
