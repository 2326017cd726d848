"""Which headers go on to an app and which come back. Pure: lists of raw names and values.

An app believes that it is `http://localhost:{port}`: that is what development servers let in, and
`Host`, `Origin` and `Referer` say the same, so checks against forgery hold. The address that people
see is in `Forwarded` (RFC 7239); `X-Forwarded-*`, which many apps mix with `Origin`, is not sent.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from urllib.parse import urlsplit

Raw = Sequence[tuple[bytes, bytes]]

COOKIE = "samovar-preview"
_COOKIES = frozenset({COOKIE.encode(), f"__Host-{COOKIE}".encode()})
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te"}
    | {b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"proxy-connection"}
)
"""RFC 9110, section 7.6.1. How long a body is, each hop says anew."""
_ONWARD = frozenset(
    {b"host", b"content-length", b"expect", b"origin", b"referer", b"cookie", b"forwarded"}
)
_BACK = frozenset(
    {b"date", b"server", b"alt-svc", b"strict-transport-security", b"clear-site-data"}
)
"""The first two our server says itself; the others speak for more than the app's own origin."""


def onward(headers: Raw, *, origin: str, port: int) -> list[tuple[bytes, bytes]]:
    """Return the headers that an app gets, without those about the body."""
    ours, its = origin.encode(), b"http://localhost" + _spelt(port)[0]
    public = urlsplit(origin)
    known = f'host="{public.netloc}";proto={public.scheme}'.encode()
    kept = [(b"host", its.removeprefix(b"http://")), (b"forwarded", known)]
    dropped = _HOP_BY_HOP | _ONWARD | _named(headers)
    cookies: list[bytes] = []
    for name, value in headers:
        if name == b"cookie":
            cookies += _others(value)
        elif name in {b"origin", b"referer"}:
            is_own = value == ours or value.startswith(ours + b"/")
            kept.append((name, its + value[len(ours) :] if is_own else value))
        elif name not in dropped and not name.startswith(b"x-forwarded-"):
            kept.append((name, value))
    return [*kept, (b"cookie", b"; ".join(cookies))] if cookies else kept


def body_of(headers: Raw) -> list[tuple[bytes, bytes]]:
    """Return the header that says how a request's body is framed; none without a body."""
    by_name = dict(headers)
    if b"transfer-encoding" in by_name:
        return [(b"transfer-encoding", b"chunked")]
    length = by_name.get(b"content-length")
    return [] if length is None else [(b"content-length", length)]


def back(headers: Raw, *, pages: str, port: int) -> list[tuple[bytes, bytes]]:
    """Return the headers that a browser gets: nothing in them reaches beyond this origin.

    Args:
        headers: The app's, names in small letters.
        pages: Origin of the pages, which may show a preview in a frame.
        port: The app's.
    """
    by_name = {name for name, _ in headers}
    dropped = _HOP_BY_HOP | _BACK | _named(headers)
    if b"transfer-encoding" in by_name:
        dropped |= {b"content-length"}
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name == b"set-cookie":
            kept += _host_only(value)
        elif name == b"location":
            kept.append((name, _inside(value, port)))
        elif name not in dropped:
            kept.append((name, value))
    framing = f"frame-ancestors 'self' {pages}".encode()
    return [*kept, (b"content-security-policy", framing), (b"x-robots-tag", b"noindex")]


def is_foreign(headers: Raw, method: str | None, origin: str) -> bool:
    """Whether a page of another origin asks, and not by a link that somebody followed.

    `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/) says it where a browser sends it. What
    sends neither that nor `Origin` is no page.
    """
    given = dict(headers)
    named, site = given.get(b"origin"), given.get(b"sec-fetch-site")
    if named not in {None, b"null", origin.encode()}:
        return True
    if site is None:
        return named == b"null"
    is_link = given.get(b"sec-fetch-mode") == b"navigate" and method in {"GET", "HEAD"}
    return site not in {b"same-origin", b"none"} and not is_link


def is_opened(headers: Raw) -> bool:
    """Whether somebody opens a page: one that goes elsewhere or loads itself again does not."""
    given = dict(headers)
    is_page = given.get(b"sec-fetch-mode") == b"navigate"
    return is_page and given.get(b"sec-fetch-user") == b"?1"


def cookie_in(headers: Raw, name: str) -> str:
    """Return a cookie of a request; empty without one."""
    for header, value in headers:
        for part in value.split(b";") if header == b"cookie" else ():
            key, _, given = part.strip().partition(b"=")
            if key == name.encode():
                return given.decode("latin-1")
    return ""


def _named(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return what `Connection` names: it is for one hop as well."""
    values = (value for name, value in headers if name == b"connection")
    return frozenset(part.strip().lower() for value in values for part in value.split(b","))


def _others(value: bytes) -> list[bytes]:
    parts = (part.strip() for part in value.split(b";"))
    return [part for part in parts if part and part.partition(b"=")[0].strip() not in _COOKIES]


def _host_only(value: bytes) -> list[tuple[bytes, bytes]]:
    """Return a cookie for this origin alone; none that takes the name of ours."""
    first, *attributes = value.split(b";")
    if first.partition(b"=")[0].strip() in _COOKIES:
        return []
    kept = [part for part in attributes if part.partition(b"=")[0].strip().lower() != b"domain"]
    return [(b"set-cookie", b";".join([first, *kept]))]


def _spelt(port: int) -> Sequence[bytes]:
    """Return how a port is written behind a host: as a browser does, then as others may."""
    return (b"", b":80") if port == 80 else (b":%d" % port,)


def _inside(value: bytes, port: int) -> bytes:
    """Return where an answer leads, as a path if it is to what the app takes for itself."""
    for host, spelt in product((b"localhost", b"127.0.0.1", b"[::1]"), _spelt(port)):
        base = b"http://" + host + spelt
        if value == base or value.startswith((base + b"/", base + b"?")):
            rest = value[len(base) :]
            return b"/" + rest.lstrip(b"/") if rest.startswith(b"/") else b"/" + rest
    return value
