"""The origins of previews: who may be here, then an app's own words.

Only `/__samovar/enter` is ours; every other path is the app's. A request that another origin's page
makes is refused: cookies of this origin come with it, as all previews are one site to a browser.
"""

from contextlib import AbstractAsyncContextManager
from functools import partial
from urllib.parse import parse_qs, quote

import h11
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from adapters.web import render
from adapters.web.hosts import PORT, WORKSPACE, Hosts
from adapters.web.preview.exchange import Answer, exchange
from adapters.web.preview.headers import (
    COOKIE,
    back,
    body_of,
    cookie_in,
    is_foreign,
    is_opened,
    onward,
)
from adapters.web.preview.lines import CutError, Lines
from adapters.web.preview.socket import pass_socket
from adapters.web.preview.visits import GoneError, Visits, Watch
from adapters.web.problems import problem, status_of
from adapters.web.shield import SAFE, origin_of
from core.errors import AppError, UserError
from core.ports.previews import Previews

ENTER = "/__samovar/enter"
LIFE_S = 7 * 24 * 3600
"""How long the browser keeps the cookie; whether it is still good is decided behind `Previews`."""
_AGAIN = frozenset({"nothing_listens", "node_away", "preview_cut"})
"""What may be over in a moment: the page loads itself again."""
_STATUS = {
    "nothing_listens": 502,
    "preview_cut": 502,
    "ports_not_reached": 502,
    "workspace_stopped": 503,
    "node_away": 503,
    "workspace_gone": 410,
    "preview_closed": 401,
}
_TITLES = {
    400: "That cannot be passed on",
    401: "Not open here",
    403: "Not from there",
    410: "It is gone",
    429: "A limit is reached",
    502: "No answer yet",
    503: "Not right now",
}


class PreviewSite:
    """The app of all previews' origins; the scope says which workspace and port were asked for."""

    def __init__(self, previews: Previews, hosts: Hosts) -> None:
        self._previews = previews
        self._hosts = hosts
        self._pages = origin_of(hosts.public_url)
        self._is_https = hosts.public_url.startswith("https:")
        self._cookie = f"__Host-{COOKIE}" if self._is_https else COOKIE
        self._lines = Lines(previews.connect)
        self._visits = Visits(previews)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Look after the connections to apps, for the length of a `with` block."""
        return self._lines.running()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            if scope["path"] == ENTER and scope["type"] == "http":
                answer = await self._enter(scope)
            else:
                await self._let_in(scope, receive, send)
                return
        except AppError as error:
            answer = self._refused(scope, error)
        await answer(scope, receive, send)

    async def _enter(self, scope: Scope) -> Response:
        """Spend a pass for the cookie, and go where no secret is in the address."""
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        cookie = await self._previews.enter(asked.get("handed", [""])[0][:500])
        if not cookie or not await self._visits.may(cookie, scope[WORKSPACE], scope[PORT]):
            raise _closed(scope[PORT])
        to = asked.get("to", ["/"])[0]
        welcome = RedirectResponse(to if is_path(to) else "/", 303)
        welcome.set_cookie(
            self._cookie,
            cookie,
            max_age=LIFE_S,
            path="/",
            secure=self._is_https,
            httponly=True,
            samesite="lax",
        )
        return welcome

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        workspace, port = scope[WORKSPACE], scope[PORT]
        if is_foreign(scope["headers"], scope.get("method"), self._origin(scope)):
            raise UserError("A page of another address asked for this.", code="wrong_origin")
        cookie = cookie_in(scope["headers"], self._cookie)
        if not await self._visits.may(cookie, workspace, port):
            raise _closed(port)
        watch = Watch(self._visits, cookie, workspace, port)

        async def receiving() -> Message:
            message = await receive()
            await watch.look()
            return message

        async def sending(message: Message) -> None:
            await watch.look()
            if message["type"] == "http.response.start" and is_opened(scope["headers"]):
                await self._visits.note(workspace)
            await send(message)

        passing = self._pass_socket if scope["type"] == "websocket" else self._pass_request
        try:
            await passing(scope, receiving, sending)
        except CutError:
            raise UserError(f"What listens on port {port} broke off.", code="preview_cut") from None
        except GoneError:
            return

    async def _pass_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        port = scope[PORT]
        headers = onward(scope["headers"], origin=self._origin(scope), port=port)
        async with self._lines.pipe((scope[WORKSPACE], port)) as pipe:
            await pass_socket(
                *(pipe, scope, receive, send),
                port=port,
                headers=headers,
                back=partial(back, pages=self._pages, port=port),
            )

    async def _pass_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one that changes nothing is tried again if its line was cut before."""
        port, answer = scope[PORT], Answer(send)
        body = body_of(scope["headers"])
        request = _request(scope, self._origin(scope), body)
        may_repeat = scope["method"] in SAFE and not body
        is_fresh = not may_repeat
        while True:
            async with self._lines.take((scope[WORKSPACE], port), fresh=is_fresh) as line:
                try:
                    await exchange(
                        *(line, request, receive, answer),
                        back=partial(back, pages=self._pages, port=port),
                        has_body=bool(body),
                    )
                except CutError:
                    if answer.has_begun:  # Our server cuts it: half must not look whole.
                        return
                    if not line.is_used:
                        raise
                else:
                    return
            is_fresh = True

    def _origin(self, scope: Scope) -> str:
        return self._hosts.preview(scope[WORKSPACE], scope[PORT])

    def _refused(self, scope: Scope, error: AppError) -> Response:
        """Say no, as a page or as a problem document, by who asks."""
        status = _STATUS.get(error.code, status_of(error))
        status = 403 if error.code == "wrong_origin" else status
        again = error.code in _AGAIN
        wants_page = "text/html" in Headers(scope=scope).get("accept", "")
        if not wants_page or scope.get("method") not in SAFE:
            wait_s = 2.0 if again else None
            return problem(status, error.code, str(error), retry_after_s=wait_s)
        home = f"{self._hosts.public_url}/workspaces/{scope[WORKSPACE]}/previews/{scope[PORT]}"
        path = scope["raw_path"].decode("latin-1")
        html = render.page(
            "preview_refused.html",
            title=_TITLES.get(status, "Not possible"),
            text=str(error),
            again=again,
            home=home if path == "/" else f"{home}?to={quote(path, safe='')}",
        )
        headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors 'self' {self._pages}",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
        }
        return HTMLResponse(html, status, headers=headers)


def is_path(to: str) -> bool:
    """Whether an address stays at its origin: a path, and nothing that a browser takes for more."""
    return to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()


def _closed(port: int) -> UserError:
    return UserError(
        f"This browser may not see port {port}, or no longer. Open it from the workspace's page, "
        "or ask for a new link where you got this one.",
        code="preview_closed",
    )


def _request(scope: Scope, origin: str, body: list[tuple[bytes, bytes]]) -> h11.Request:
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    headers = onward(scope["headers"], origin=origin, port=scope[PORT]) + body
    if scope["method"] == "CONNECT":
        raise UserError("A preview passes on requests, not tunnels.", code="invalid")
    try:
        return h11.Request(method=scope["method"], target=target, headers=headers)
    except h11.LocalProtocolError as error:
        raise UserError(f"This request is not passed on: {error}.", code="invalid") from error
