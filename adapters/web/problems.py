"""Our errors as answers: RFC 9457 problem documents for programs, a page for people."""

import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Scope

from adapters.web import render
from core.errors import (
    AppError,
    ForbiddenError,
    NotFoundError,
    OutsideError,
    QuotaError,
    UserError,
)
from core.ports.commands import WorkspaceView

log = structlog.get_logger(__name__)

_STATUS: tuple[tuple[type[AppError], int], ...] = (
    (NotFoundError, 404),
    (ForbiddenError, 403),
    (QuotaError, 429),
    (UserError, 400),
    (OutsideError, 503),
)
RETRY_AFTER_S = 10
HOME = "samovar.home"
"""Key of an ASGI scope: address and words of the link on a refusal, if not those of the pages."""


class SignInNeededError(UserError):
    """Nobody is signed in."""

    code = "sign_in_needed"


class DeletedError(UserError):
    """There was such a thing, and there will not be again."""

    code = "deleted"

    @classmethod
    def of(cls, workspace: WorkspaceView) -> "DeletedError":
        """Say where the work of a deleted workspace is."""
        reply = f" Or reply in the thread of {workspace.task_id}." if workspace.task_id else ""
        return cls(
            f"Workspace {workspace.id} was deleted. For 30 days its copy is among the rescue "
            f"copies; restoring it makes a new workspace.{reply}"
        )


class StoppedError(UserError):
    """It is there, and must be started before it can be used."""

    code = "stopped"


def status_of(error: AppError) -> int:
    """Return the HTTP status of an error; 500 for what people should never see."""
    if isinstance(error, SignInNeededError):
        return 401
    if isinstance(error, DeletedError):
        return 410
    if isinstance(error, StoppedError):
        return 409
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(status: int, code: str, detail: str, *, retry_after_s: float | None = None) -> Response:
    """Return a problem document (RFC 9457)."""
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:.0f}"}
    body = {"type": f"/docs/errors#{code}", "title": code, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json", headers={**headers})


def wants_json(scope: Scope) -> bool:
    """Whether the asker is a program: the JSON API, or a script of a page."""
    accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
    return scope["path"].startswith("/api/") or "json" in accept


def refusal(
    scope: Scope, status: int, code: str, detail: str, *, retry_after_s: float | None = None
) -> Response:
    """Say no, as a problem document or as a page, by who asks."""
    if wants_json(scope):
        return problem(status, code, detail, retry_after_s=retry_after_s)
    title = _TITLES.get(status, "Not possible")
    home, words = scope.get(HOME, ("/", "All tasks"))
    html = render.page(
        "message.html", person=None, title=title, text=detail, home=home, words=words
    )
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:.0f}"}
    return HTMLResponse(html, status, headers=headers)


_TITLES = {
    401: "Sign in first",
    403: "You may not do that",
    404: "Not here",
    409: "It is stopped",
    410: "It is gone",
    413: "Too much at once",
    421: "Not at this address",
    429: "A limit is reached",
    503: "Not right now",
}


async def on_app_error(request: Request, error: Exception) -> Response:
    """Answer an error of our contract."""
    if not isinstance(error, AppError):
        raise error
    status = status_of(error)
    if status == 500:
        return await on_bug(request, error)
    wait: Any = None
    if isinstance(error, OutsideError):
        wait = getattr(error, "retry_after_s", None) or RETRY_AFTER_S
    return refusal(request.scope, status, error.code, str(error), retry_after_s=wait)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer any other error: a reference that is also in the log, and nothing else."""
    ref = secrets.token_hex(4)
    log.error("web.request_crashed", ref=ref, path=request.url.path, exc_info=error)
    return refusal(request.scope, 500, "bug", f"Something broke on our side (ref {ref}).")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 404:
        return refusal(request.scope, 404, "not_found", "There is nothing at this address.")
    code = "too_large" if error.status_code == 413 else "not_possible"
    return refusal(request.scope, error.status_code, code, str(error.detail))


async def _on_bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return refusal(request.scope, 422, "invalid", f"{where}: {first['msg']}")


HANDLERS: Mapping[
    int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]
] = {
    AppError: on_app_error,
    Exception: on_bug,
    HTTPException: _on_http_error,
    RequestValidationError: _on_bad_request,
}
"""Who answers which error, in every app that people use."""
