"""The only way from a workspace to the code host's branches.

A credential helper cannot tell a fetch from a push, so a workspace holds a token that may only
read, and its push URL points here. The gate reads what the push asks for, lets through the
branches of this task and nothing else, and adds the token that may write. git speaks its "smart"
HTTP protocol (gitprotocol-http(5)): a GET of `info/refs`, then a POST of `git-receive-pack`; a big
push begins with a POST of a lone flush to see whether it may come in.
"""

import asyncio
import base64
import binascii
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from adapters.github.pkt import PktError, PushHead, refusal
from adapters.github.push_rules import refusals
from core.errors import NotFoundError, OutsideError, UnavailableError
from core.ports.forge import Forge, GitAccess
from core.ports.grants import Grant, Grants
from core.project import RepoRef

log = structlog.get_logger(__name__)

SERVICE = "git-receive-pack"
TOKEN_TTL_S = 600
"""A push is checked when it begins; ten minutes see it begin."""
TOKEN_REST_S = 120
"""A token with less than this ahead is not used for another push."""
CONNECT_S = 15
SILENCE_S = 1800
"""From one byte of the code host's answer to the next: it is silent while a big push comes in."""
HEAD_S = 60
"""How long a push may take to say what it wants."""
DRAIN_BYTES_MAX = 1 << 30
"""How much of a refused push is read and thrown away, so that git gets to hear the answer."""
CHUNK = 1 << 16


class DeniedError(Exception):
    """The request goes no further; this is its answer."""

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """A token that may write, and when we got it on the clock that never steps back."""

    access: GitAccess
    since_s: float


class _TwoWay(StreamingResponse):
    """An answer that begins while the request is still being read.

    git's server does that. The usual response would listen for a disconnect and so steal the
    request's chunks.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await self.stream_response(send)


class PushGate:
    """Takes pushes from workspaces. Use it as an async context manager and mount `app` at `/git`.

    Attributes:
        app: ASGI application with the paths `/{owner}/{name}.git/…`.
    """

    def __init__(self, grants: Grants, forge: Forge) -> None:
        self._grants = grants
        self._forge = forge
        self._keys: dict[str, _Key] = {}
        self.app = Starlette(
            routes=[
                Route("/{owner}/{name}.git/info/refs", self._advertise, methods=["GET"]),
                Route(f"/{{owner}}/{{name}}.git/{SERVICE}", self._receive, methods=["POST"]),
                Route("/{owner}/{name}.git/git-upload-pack", self._no_fetch, methods=["POST"]),
            ],
            exception_handlers={DeniedError: _denied},  # type: ignore[dict-item]  # typed for Exception
        )

    async def __aenter__(self) -> Self:
        """Open connections to the code host."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close them and forget the tokens."""
        self._keys.clear()
        await self._http.close()

    async def _advertise(self, request: Request) -> Response:
        grant = await self._admitted(request)
        if request.query_params.get("service") != SERVICE:
            raise _fetch_denied()
        return await self._passed_on(grant, "GET", f"info/refs?service={SERVICE}", None)

    async def _no_fetch(self, request: Request) -> Response:
        await self._admitted(request)
        raise _fetch_denied()

    async def _receive(self, request: Request) -> Response:
        grant = await self._admitted(request)
        body = _inflated(request)
        head = await _read_head(body)
        reasons = refusals(head.commands, grant.branches)
        if head.commands:
            log.info(
                "push.refused" if reasons else "push.passed",
                workspace_id=grant.workspace_id,
                run_id=grant.run_id,
                repository=str(grant.repository),
                refs=[command.ref for command in head.commands],
                reasons=sorted(set(reasons.values())),
            )
        if reasons:
            return await _refused(head, reasons, body, grant.branches)
        return await self._passed_on(grant, "POST", SERVICE, _joined(head, body))

    async def _admitted(self, request: Request) -> Grant:
        """Return what the caller may do, if this repository is its own."""
        header = request.headers.get("Authorization", "")
        if not header:
            ask = {"WWW-Authenticate": 'Basic realm="Samovar"'}
            raise DeniedError(401, "Pushing from a workspace needs its token.", ask)
        grant = await self._grants.grant(_token(header))
        if grant is None:
            raise DeniedError(
                403,
                "Nothing can be pushed from here now: no run works in this workspace. Reply in its "
                "task's thread; what is committed goes out with that run.",
            )
        wanted = RepoRef(owner=request.path_params["owner"], name=request.path_params["name"])
        if str(wanted).lower() != str(grant.repository).lower():
            raise DeniedError(
                404, f"This workspace works on {grant.repository} and no other repository."
            )
        return grant

    async def _passed_on(
        self, grant: Grant, method: str, path: str, body: AsyncIterator[bytes] | None
    ) -> Response:
        """Ask the code host with the token that may write, and hand its answer back."""
        try:
            access = await self._access(grant.repository)
            answer = await self._http.request(
                method,
                f"{access.url}/{path}",
                data=body,
                headers=_headers(access, path),
                allow_redirects=False,
            )
        except NotFoundError as error:
            raise DeniedError(404, str(error)) from error
        except UnavailableError as error:
            raise DeniedError(503, f"{error}. Push again in a moment.") from error
        except OutsideError as error:
            raise DeniedError(502, str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DeniedError(
                502, "The code host cannot be reached. Push again in a moment."
            ) from error
        if answer.status != 200:
            answer.close()
            self._keys.pop(str(grant.repository), None)
            raise DeniedError(*_misfortune(answer.status))
        headers = {"Cache-Control": "no-cache"}
        return _TwoWay(
            _streamed(answer), headers=headers, media_type=answer.headers.get("Content-Type")
        )

    async def _access(self, repo: RepoRef) -> GitAccess:
        """Return a token that may write, the one of the last minutes if it lasts."""
        now_s = time.monotonic()
        kept = self._keys.get(str(repo))
        if kept is None or now_s - kept.since_s > TOKEN_TTL_S - TOKEN_REST_S:
            access = await self._forge.access(repo, scope="write", ttl_s=TOKEN_TTL_S)
            kept = self._keys[str(repo)] = _Key(access=access, since_s=now_s)
        return kept.access


async def _read_head(body: AsyncIterator[bytes]) -> PushHead:
    head = PushHead()
    try:
        async with asyncio.timeout(HEAD_S):
            async for chunk in body:
                head.feed(chunk)
                if head.is_whole:
                    return head
    except (PktError, zlib.error) as error:
        raise DeniedError(400, f"This is not a push that we understand: {error}.") from error
    except (TimeoutError, ClientDisconnect) as error:
        raise DeniedError(408, "The push did not say in time what it wants.") from error
    raise DeniedError(400, "The push ended before it said what it wants.")


async def _refused(
    head: PushHead, reasons: Mapping[str, str], body: AsyncIterator[bytes], branches: str
) -> Response:
    thrown_away = 0
    with suppress(ClientDisconnect, zlib.error):
        async for chunk in body:
            thrown_away += len(chunk)
            if thrown_away > DRAIN_BYTES_MAX:
                break
    remark = f"Samovar: nothing was pushed. Push to a branch like {branches}fix instead."
    report = refusal(head, reasons, remark=remark)
    if report is None:
        return PlainTextResponse(f"{remark}\n", status_code=403)
    return Response(report, media_type=f"application/x-{SERVICE}-result")


async def _inflated(request: Request) -> AsyncIterator[bytes]:
    """Yield the body, without the gzip that git may wrap it in."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding == "identity":
        async for chunk in request.stream():
            yield chunk
        return
    if coding not in {"gzip", "x-gzip"}:
        raise DeniedError(415, f"The content encoding {coding} is not understood.")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for chunk in request.stream():
        rest = chunk
        while rest:
            yield inflater.decompress(rest, CHUNK)
            rest = inflater.unconsumed_tail
    if not inflater.eof:
        raise zlib.error("it ends too early")


async def _joined(head: PushHead, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield bytes(head.seen)
    async for chunk in body:
        yield chunk


async def _streamed(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for chunk in answer.content.iter_chunked(CHUNK):
            yield chunk


def _headers(access: GitAccess, path: str) -> dict[str, str]:
    pair = f"{access.username}:{access.token.reveal()}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(pair).decode()}",
        "Accept-Encoding": "identity",
        "User-Agent": "git/samovar",
    }
    return headers | (
        {"Content-Type": f"application/x-{SERVICE}-request"} if path == SERVICE else {}
    )


def _token(header: str) -> str:
    """Return the secret of an Authorization header, Basic or Bearer; empty if there is none."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _fetch_denied() -> DeniedError:
    return DeniedError(403, "This address takes pushes only. Fetch from the code host itself.")


def _misfortune(status: int) -> tuple[int, str]:
    """Return what git is told when the code host did not take the request.

    Never 401: git would ask a person for a password that nobody has.
    """
    if status == 404:
        return 404, "The code host has no such repository, or Samovar may not see it."
    if status >= 500 or status == 429:
        return 503, "The code host cannot take a push now. Push again in a moment."
    return 502, f"The code host refuses Samovar's push (status {status})."


async def _denied(_request: Request, error: DeniedError) -> Response:
    return PlainTextResponse(
        f"{error.sentence}\n", status_code=error.status, headers=dict(error.headers or {})
    )
