"""The buttons that take an agent's conversation into a terminal and give it back."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from adapters.web.api import Injected
from adapters.web.auth import Actor
from adapters.web.entry import addresses, over_to
from adapters.web.pages import done
from core.access import Person
from core.errors import UserError
from core.ids import SessionId, TaskId
from core.ports.commands import Commands, Doors, When

router = APIRouter()


@router.post("/tasks/{task_id}/terminal")
async def open_session(
    request: Request,
    task_id: str,
    actor: Actor,
    commands: Injected,
    when: Annotated[When, Form()] = "",
) -> Response:
    """Leave the agent's conversation to a terminal, and go there; not where nobody could."""
    addresses(request)
    session = await session_of(commands, actor, TaskId(task_id))
    opened = await commands.open_session(actor, session, when=when)
    doors: Doors = request.app.state.doors
    handed = await doors.hand_over(actor, opened.workspace_id)
    return over_to(request, opened.workspace_id, handed, terminal=opened.id)


@router.post("/tasks/{task_id}/terminal/return")
async def return_session(
    request: Request, task_id: str, actor: Actor, commands: Injected
) -> Response:
    """Give the agent's conversation back to the thread."""
    session = await session_of(commands, actor, TaskId(task_id))
    await commands.return_session(actor, session)
    return done(request, f"/tasks/{quote(task_id)}", said="The agent goes on by itself.")


async def session_of(commands: Commands, actor: Person, task: TaskId) -> SessionId:
    """Return the newest conversation of a task's agent.

    Raises:
        UserError: There is none yet.
    """
    view = await commands.task(actor, task)
    for run in reversed(view.runs):
        if run.session_id is not None:
            return run.session_id
    raise UserError(f"{task} has no agent yet. Try again when it works.", code="no_session")
