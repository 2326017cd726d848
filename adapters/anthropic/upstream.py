"""Asks Anthropic, with our key, patiently."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import aiohttp
import structlog
from yarl import URL

from adapters.anthropic import answers
from adapters.anthropic.answers import Refusal
from adapters.anthropic.gate import Gate
from core.secret import Secret

log = structlog.get_logger(__name__)

OAUTH_BETA = "oauth-2025-04-20"
BUSY = frozenset({429, 529})
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What Anthropic knows us by.

    Attributes:
        kind: `api_key` is sent as `x-api-key`; `oauth`, a subscription's token, as bearer.
    """

    secret: Secret
    kind: Literal["api_key", "oauth"] = "api_key"

    def added_to(self, headers: Headers) -> list[tuple[str, str]]:
        """Return `headers`, which hold no credential, with this one."""
        if self.kind == "api_key":
            return [*headers, ("x-api-key", self.secret.reveal())]
        betas = [value for name, value in headers if name == "anthropic-beta"]
        if OAUTH_BETA not in ",".join(betas):
            betas.append(OAUTH_BETA)
        others = [(name, value) for name, value in headers if name != "anthropic-beta"]
        bearer = ("authorization", f"Bearer {self.secret.reveal()}")
        return [*others, ("anthropic-beta", ",".join(betas)), bearer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """How long the proxy waits and how much it takes in.

    Attributes:
        connect_s_max: Seconds to reach the upstream.
        silent_s_max: Seconds without a byte after which a stream is cut. The vendor sends a ping
            far more often; Claude Code itself would wait 300 s.
        whole_s_max: Seconds for an answer in one piece, before which no byte is sent: what the
            vendor's own client waits.
        retry_s_max: Seconds during which a call that is refused as too much is tried again.
        retry_s_first: The first pause between two tries; it doubles.
        request_bytes_max: Largest request: twice what the vendor takes.
    """

    connect_s_max: float = 10.0
    silent_s_max: float = 90.0
    whole_s_max: float = 600.0
    retry_s_max: float = 60.0
    retry_s_first: float = 0.5
    request_bytes_max: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as it goes out, but for the key."""

    target: str
    headers: Headers
    body: bytes
    is_streamed: bool


class Upstream:
    """The connections to Anthropic, with one pause for all of them."""

    def __init__(
        self, *, url: str, key: Callable[[], Awaitable[Key | None]], limits: ProxyLimits
    ) -> None:
        self._url, self._key, self._limits = url.rstrip("/"), key, limits
        self._gate = Gate(first_s=limits.retry_s_first, longest_s=limits.retry_s_max)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=AUTOMATIC,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[aiohttp.ClientResponse | Refusal]:
        """Yield the answer whose body has not been read, or why there is none."""
        key = await self._key()
        if key is None:
            yield answers.NO_KEY
            return
        try:
            answer = await self._ask_until_let_in(question, key)
        except TimeoutError as error:
            log.warning("model.upstream_silent", error=type(error).__name__)
            yield answers.SILENT
            return
        except aiohttp.ClientError as error:
            log.warning("model.unreachable", error=type(error).__name__)
            yield answers.UNREACHABLE
            return
        if isinstance(answer, Refusal):
            yield answer
            return
        async with answer:
            yield _for_the_operator(answer.status) or answer

    async def _ask_until_let_in(
        self, question: Question, key: Key
    ) -> aiohttp.ClientResponse | Refusal:
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(self._gate.wait_s())
            asked_at = clock()
            answer = await self._ask_once(question, key)
            if answer.status not in BUSY:
                if self._gate.passed():
                    log.warning("model.let_in_again")
                return answer
            answer.release()
            retry_after_s = _seconds(answer.headers.get("retry-after"))
            if self._gate.refused(asked_at=asked_at, retry_after_s=retry_after_s):
                log.warning("model.overloaded", status=answer.status, retry_after_s=retry_after_s)
            waited_s = clock() - began
            if waited_s + max(self._gate.wait_s(), retry_after_s or 0) > self._limits.retry_s_max:
                return answers.overloaded(
                    status=answer.status, waited_s=waited_s, retry_after_s=retry_after_s
                )

    async def _ask_once(self, question: Question, key: Key) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("use Upstream as a context manager")
        limits = self._limits
        return await self._session.post(
            URL(f"{self._url}{question.target}", encoded=True),
            data=io.BytesIO(question.body),  # aiohttp sends large bytes in one go
            headers=[*key.added_to(question.headers), ("accept-encoding", "identity")],
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=limits.connect_s_max,
                sock_read=limits.silent_s_max if question.is_streamed else limits.whole_s_max,
            ),
        )


def _for_the_operator(status: int) -> Refusal | None:
    """Return what to say instead when only the operator can do something."""
    match status:
        case 401:
            log.error("model.key_refused")
            return answers.KEY_REFUSED
        case 402:
            log.error("model.no_credit")
            return answers.NO_CREDIT
        case _:
            return None


def _seconds(retry_after: str | None) -> float | None:
    """Read a `retry-after` header; dates, which the vendor does not send, count as none."""
    try:
        seconds = float(retry_after) if retry_after else None
    except ValueError:
        return None
    return seconds if seconds is None or 0 <= seconds < 10**9 else None
