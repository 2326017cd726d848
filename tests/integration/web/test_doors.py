"""Who gets in where: cookies, origins, machine routes, one-time links."""

from collections.abc import AsyncIterator
from io import BytesIO

import aiohttp
import pytest
from starlette.types import Receive, Scope, Send

from adapters.web.app import web_app
from adapters.web.shield import BODY_BYTES_MAX, origin_of
from tests.fakes.commands import FakeCommands, FakeDoors, FakeSignIn, a_person
from tests.fakes.previews import FakePreviews
from tests.fakes.story import tell
from tests.fakes.web import Setup, Site, a_site

OPEN = {("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out"), ("GET", "/health")}
OPEN |= {(method, path) for method in ("GET", "POST") for path in ("/enter", "/preview")}
REFUSING = {"/sign-in", "/enter", "/preview"}
"""A link's own page: who may use it is said by the link."""
FILLED = {
    "project_id": "web",
    "path": "app.py",
    "port": "5173",
    "task_id": "T-3",
    "chat_id": "T-3",
    "recording_id": "00000000-0000-4000-8000-000003000001",
    "run_id": "T-3.1",
    "workspace_id": "k3v9x203",
    "terminal_id": "t-0000aaaa",
    "node_id": "node-3f9c1ab2",
    "copy_id": "k3v9x203-1",
    "session_id": "00000000-0000-4000-8000-000003000001",
    "decision_id": "nothing:here",
}


async def machine(scope: Scope, receive: Receive, send: Send) -> None:
    """A machine's app: wants its own token, never saw a cookie check."""
    token = dict(scope["headers"]).get(b"authorization") == b"Bearer machine"
    await send({"type": "http.response.start", "status": 200 if token else 401, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    setup = Setup()
    await tell(setup.commands, setup.person)
    mounts = {"/llm": machine, "/git": machine, "/node/v1": machine}
    async with a_site(setup, mounts) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def routes() -> list[tuple[str, str]]:
    """Return (method, path) of every route for people, pages and API alike."""
    app = web_app(
        commands=FakeCommands(),
        sign_in=FakeSignIn(),
        doors=FakeDoors(),
        previews=FakePreviews(),
        deltas=None,
        public_url="http://localhost",
        domain="localhost",
        xterm=None,
        player=None,
        mounts={},
    )
    found = []
    for mount in app.routes:  # type: ignore[attr-defined]  # it is a Starlette
        for route in _leaves(mount.app.routes):
            for method in sorted(route.methods - {"HEAD"}):
                path = route.path.replace(":path", "")
                found.append((method, mount.path + path))
    return found


def _leaves(found):  # type: ignore[no-untyped-def]  # routes of a framework, of several kinds
    for route in found:
        if hasattr(route, "methods"):
            yield route
        elif hasattr(route, "original_router"):
            yield from _leaves(route.original_router.routes)


def test_the_walk_sees_the_whole_house() -> None:
    found = routes()
    assert ("POST", "/api/v1/decisions/{decision_id}/answer") in found
    assert ("GET", "/tasks/{task_id}/live") in found
    assert len(found) > 35


async def test_c1_a_route_for_people_opens_to_its_cookie_alone(
    site: Site, http: aiohttp.ClientSession
) -> None:
    headers = {**site.origin, "Accept": "application/json"}
    strangers = ({}, {"Authorization": "Bearer machine"}, {"Cookie": "samovar=forged"})
    for method, path in routes():
        url = site.url + path.format(**FILLED)
        name = path.removeprefix("/api/v1")
        is_open = (method, name) in OPEN or path == "/api/v1/openapi.json"
        for stranger in strangers:
            async with http.request(method, url, headers={**headers, **stranger}) as answer:
                refused = answer.status in {401, 403}
                assert refused != is_open or path in REFUSING, (method, path)
    for method, path in routes():
        if path == "/sign-out":
            continue
        headers["Cookie"] = f"samovar={site.cookie}"
        async with http.request(
            method, site.url + path.format(**FILLED), headers=headers, allow_redirects=False
        ) as answer:
            assert answer.status not in {401, 500} or path in REFUSING, (method, path)


@pytest.mark.parametrize("path", ["/llm/v1/messages", "/git/acme/web", "/node/v1/agent"])
async def test_c1_a_machine_route_opens_to_its_token_alone(
    path: str, site: Site, http: aiohttp.ClientSession
) -> None:
    cookie = {"Cookie": f"samovar={site.cookie}"}
    async with http.post(site.url + path, headers=cookie) as answer:
        assert answer.status == 401
    big = BytesIO(b"x" * (BODY_BYTES_MAX + 1))
    token = {"Authorization": "Bearer machine", "Origin": "http://elsewhere.example"}
    async with http.post(site.url + path, headers=token, data=big) as answer:
        assert answer.status == 200, "no origin check and no size limit of people's apps"
        assert await answer.text() == path
        assert "Content-Security-Policy" not in answer.headers


CHANGES = [
    ("POST", "/tasks"),
    ("POST", "/tasks/T-3/stop"),
    ("POST", "/sign-out"),
    ("POST", "/sign-in"),
    ("POST", "/api/v1/tasks"),
    ("DELETE", "/api/v1/nodes/node-3f9c1ab2"),
]


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://127.0.0.1"])
async def test_a_change_from_another_origin_is_refused(
    origin: str | None, site: Site, http: aiohttp.ClientSession
) -> None:
    headers = {"Cookie": f"samovar={site.cookie}", **({"Origin": origin} if origin else {})}
    before = len(site.commands.calls)
    for method, path in CHANGES:
        async with http.request(method, site.url + path, headers=headers) as answer:
            assert answer.status == 403
            assert site.url in await answer.text()
    assert len(site.commands.calls) == before
    assert site.sign_in.cookies


async def test_c9_a_link_preview_burns_no_sign_in_link(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.sign_in.tokens["once"] = a_person("member", "Ben")
    url = f"{site.url}/sign-in"
    for method in ("GET", "HEAD", "GET"):
        async with http.request(method, url, params={"token": "once"}) as looked:
            assert looked.status in {200, 405}
    form = {"token": "once"}
    async with http.post(url, data=form, headers=site.origin, allow_redirects=False) as entered:
        assert entered.status == 303
        cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Domain" not in cookie
    async with http.post(url, data=form, headers=site.origin) as again:
        assert again.status == 403
        assert "used already" in await again.text()


async def test_under_https_the_cookie_is_bound_to_the_host() -> None:
    sign_in = FakeSignIn()
    sign_in.tokens["once"] = a_person()
    app = web_app(
        commands=FakeCommands(),
        sign_in=sign_in,
        doors=FakeDoors(),
        previews=FakePreviews(),
        deltas=None,
        public_url="https://samovar.example",
        domain="samovar.example",
        xterm=None,
        player=None,
        mounts={},
    )
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"token=once", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/sign-in",
        "raw_path": b"/sign-in",
        "query_string": b"",
        "root_path": "",
        "scheme": "https",
        "http_version": "1.1",
        "headers": [
            (b"origin", b"https://samovar.example"),
            (b"content-type", b"application/x-www-form-urlencoded"),
        ],
    }
    await app(scope, receive, send)  # type: ignore[arg-type]  # plain functions, as ASGI has it
    headers = dict(sent[0]["headers"])  # type: ignore[call-overload]
    cookie = headers[b"set-cookie"].decode()
    assert cookie.startswith("__Host-samovar=")
    assert "Secure" in cookie
    assert "Path=/" in cookie


async def test_signing_out_ends_the_session_on_the_server(
    site: Site, http: aiohttp.ClientSession
) -> None:
    headers = {"Cookie": f"samovar={site.cookie}", **site.origin}
    async with http.post(f"{site.url}/sign-out", headers=headers, allow_redirects=False) as bye:
        assert bye.headers["Location"] == "/sign-in"
    async with http.get(f"{site.url}/api/v1/tasks", headers=headers) as answer:
        assert answer.status == 401


async def test_every_answer_carries_the_headers_that_keep_pages_apart(
    site: Site, http: aiohttp.ClientSession
) -> None:
    cookie = {"Cookie": f"samovar={site.cookie}"}
    for path in ("/", "/sign-in", "/nope", "/static/app.js", "/api/v1/tasks", "/api/v1/nope"):
        async with http.get(site.url + path, headers=cookie) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self'")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("is_honest", [True, False])
async def test_a_request_that_is_too_large_is_refused(
    is_honest: bool, site: Site, http: aiohttp.ClientSession
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 65536 + 2):
            yield b"x" * 65536

    body = BytesIO(b"x" * (BODY_BYTES_MAX + 1)) if is_honest else chunks()
    headers = {"Cookie": f"samovar={site.cookie}", **site.origin}
    headers["Content-Type"] = "application/json"
    async with http.post(f"{site.url}/api/v1/tasks", data=body, headers=headers) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://samovar.example/", "https://samovar.example"),
        ("https://samovar.example:443", "https://samovar.example"),
        ("http://localhost:8420/x", "http://localhost:8420"),
        ("http://[::1]:8420", "http://[::1]:8420"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str) -> None:
    assert origin_of(url) == origin
