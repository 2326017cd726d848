"""Previews: an app of a workspace behind an origin of its own, as it is."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from websockets.utils import accept_key

from adapters.web.preview import lines, visits
from adapters.web.preview import socket as websocket
from core.errors import UserError
from core.ids import WorkspaceId
from tests.fakes.preview_app import PIECE, App, an_app
from tests.fakes.serving import until
from tests.fakes.web import Site

SPACE, PORT = WorkspaceId("k3v9x203"), 5173
BIG_BYTES = 50_000_000
PIECES = 500


@dataclass
class Browser:
    """Sends what a browser would to the preview's origin."""

    site: Site
    http: aiohttp.ClientSession
    cookie: str
    port: int = PORT

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Host": self.site.preview(SPACE, self.port).partition("//")[2],
            "Cookie": f"theirs=1; samovar-preview={self.cookie}",
            "Accept": "*/*",
        }

    def ask(self, method: str, path: str, **more: Any) -> Any:
        headers = {**self.headers, **more.pop("headers", {})}
        return self.http.request(
            method, f"{self.site.url}{path}", headers=headers, allow_redirects=False, **more
        )

    def dial(self, path: str = "/socket", **more: Any) -> Any:
        origin = {"Origin": self.site.preview(SPACE, self.port)}
        headers = {**self.headers, **origin, **more.pop("headers", {})}
        return self.http.ws_connect(
            f"{self.site.url}{path}", headers=headers, max_msg_size=0, **more
        )


@pytest.fixture
async def app(site: Site) -> AsyncIterator[App]:
    async with an_app() as running:
        site.previews.apps[SPACE, PORT] = running.port
        yield running


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Browser(site, http, site.previews.let_in(SPACE, PORT, site.person))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
async def test_a_request_of_any_method_reaches_the_app_as_it_is(
    browser: Browser, app: App, method: str
) -> None:
    body = None if method == "GET" else b"some words"
    path = "/a%2Fb//c?d=%20e&&f"
    url = aiohttp.client.URL(f"{browser.site.url}{path}", encoded=True)
    async with browser.http.request(
        method, url, headers={**browser.headers, "X-Their": "\u00e9"}, data=body
    ) as answer:
        told = json.loads(await answer.read())
        assert answer.status == 200
        assert "X-Hop" not in answer.headers
        assert answer.headers["Set-Cookie"] == "theirs=1; Path=/"
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert told["method"] == method
    assert told["target"] == path
    assert told["size"] == len(body or b"")
    (head,) = app.heads
    assert head["host"] == f"localhost:{PORT}"
    assert head["cookie"] == "theirs=1"
    assert head["x-their"] == "\u00e9"
    assert "samovar-preview" not in str(head)
    assert f'host="{browser.headers["Host"]}";proto=http' == head["forwarded"]


async def test_a_head_has_no_body_and_its_length(browser: Browser, app: App) -> None:
    async with browser.ask("HEAD", "/html") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0


async def test_connections_are_used_again_and_let_go(browser: Browser, app: App) -> None:
    for _ in range(5):
        async with browser.ask("GET", "/html") as answer:
            assert answer.status == 200
    previews = browser.site.previews
    assert previews.connections < 5
    await until(lambda: previews.live == 0)


async def test_what_is_idle_and_was_closed_by_the_app_costs_one_more_try(
    browser: Browser, app: App
) -> None:
    for _ in range(2):
        async with browser.ask("GET", "/close") as answer:
            assert await answer.text() == "ok"
    assert browser.site.previews.connections == 2


async def test_a_large_body_goes_there_and_comes_back(browser: Browser, app: App) -> None:
    data = PIECE * (BIG_BYTES // len(PIECE))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1 << 18):
            yield data[start : start + (1 << 18)]

    for body in (BytesIO(data), pieces()):  # With a length, and chunked.
        app.taken = 0
        async with browser.ask("POST", "/take", data=body) as answer:
            said = (await answer.text()).split()
        assert said == [str(len(data)), hashlib.sha256(data).hexdigest()]
    digest, count = hashlib.sha256(), len(data) // len(PIECE)
    async with browser.ask("GET", f"/give?pieces={count}") as answer:
        async for piece in answer.content.iter_any():
            digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()


async def test_a_slow_reader_slows_the_app_and_a_slow_app_the_sender(
    browser: Browser, app: App
) -> None:
    count = 4 * BIG_BYTES // len(PIECE)
    async with browser.ask("GET", f"/give?pieces={count}") as answer:
        await settled(lambda: app.taken)
        assert app.taken < BIG_BYTES, "what nobody reads is kept somewhere"
        answer.close()
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(count):
            yield PIECE
            sent += len(PIECE)

    app.taken = 0
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(read(browser.ask("POST", "/take-late", data=pieces())))
        await settled(lambda: sent)
        assert sent < BIG_BYTES
        app.go.set()
        said = await asking
    assert said.split()[0] == str(count * len(PIECE)).encode()


async def settled(count: Any) -> None:
    await until(count)
    before, calm = -1, 0
    while calm < 20:
        calm = calm + 1 if before == count() else 0
        before = count()
        await asyncio.sleep(0.02)


async def read(asking: Any) -> bytes:
    async with asking as answer:
        data: bytes = await answer.read()
        return data


async def test_events_come_one_by_one_and_the_app_learns_of_the_end(
    browser: Browser, app: App
) -> None:
    async with browser.ask("GET", "/events", headers={"Accept": "text/event-stream"}) as answer:
        for number in range(3):
            assert await answer.content.readline() == f"data: {number}\n".encode()
            assert await answer.content.readline() == b"\n"
            app.go.set()
        answer.close()
    await until(lambda: browser.site.previews.live == 0)
    app.go.set()
    await until(lambda: app.gone)


async def test_half_an_answer_does_not_look_whole(browser: Browser, app: App) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await read(browser.ask("GET", "/break"))


async def test_an_app_that_hangs_up_is_a_bad_gateway(browser: Browser, app: App) -> None:
    async with browser.ask("GET", "/hang-up") as answer:
        assert (answer.status, (await answer.json())["title"]) == (502, "preview_cut")


async def test_an_early_refusal_is_heard(browser: Browser, app: App) -> None:
    async with browser.ask("POST", "/refuse", data=BytesIO(b"x" * 3_000_000)) as answer:
        assert (answer.status, await answer.text()) == (413, "too much")


async def test_a_websocket_passes_words_bytes_subprotocol_and_its_end(
    browser: Browser, app: App
) -> None:
    async with browser.dial(protocols=("coffee", "milk")) as socket:
        assert socket.protocol == "coffee"
        await socket.send_str("gr\u00fc\u00dfe")
        assert await socket.receive_str() == "gr\u00fc\u00dfe"
        large = bytes(range(256)) * 12_000
        await socket.send_bytes(large)
        assert await socket.receive_bytes() == large
        await socket.send_str("bye")
        end = await socket.receive()
        assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you said")
    assert app.heads[0]["origin"] == f"http://localhost:{PORT}"
    assert app.heads[0]["host"] == f"localhost:{PORT}"
    assert app.heads[0]["cookie"] == "theirs=1"


async def test_the_app_learns_how_the_browser_ended_a_websocket(browser: Browser, app: App) -> None:
    async with browser.dial() as socket:
        await socket.send_str("a")
        assert await socket.receive_str() == "a"
        await socket.close(code=4002, message=b"enough")
    await until(lambda: app.closed)
    assert app.closed[0][0] == 4002
    async with browser.dial() as socket:
        await socket.close(code=1000)
    await until(lambda: len(app.closed) == 2)
    assert app.closed[1][0] == 1000
    await until(lambda: browser.site.previews.live == 0)


async def test_a_websocket_that_is_cut_or_refused_says_so(browser: Browser, app: App) -> None:
    async with browser.dial() as socket:
        await socket.send_str("drop")
        end = await socket.receive()
        assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1014)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.dial("/socket?no=1")
    assert refused.value.status == 418
    browser.site.previews.apps.clear()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.dial()
    assert refused.value.status == 502


@asynccontextmanager
async def bare(
    site: Site, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[None]:
    """Be an app that reads and writes its bytes itself."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    site.previews.apps[SPACE, PORT] = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()


async def agreed(reader: asyncio.StreamReader) -> bytes:
    """Read the request of a WebSocket; return the answer that takes it."""
    head = await reader.readuntil(b"\r\n\r\n")
    (key,) = re.findall(rb"(?i)sec-websocket-key: (\S+)", head)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
    )


async def test_what_an_app_says_with_its_yes_to_a_websocket_is_heard(browser: Browser) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await agreed(reader) + b"\x81\x05hello\x81\x05again")
        await reader.read()

    async with bare(browser.site, greet), browser.dial() as socket:
        assert await socket.receive_str(timeout=30) == "hello"
        assert await socket.receive_str(timeout=30) == "again"


async def test_an_app_that_reads_only_after_it_was_heard_is_heard(browser: Browser) -> None:
    taken = 0

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        writer.write(await agreed(reader))
        for _ in range(PIECES):
            writer.write(b"\x89\x00" + b"\x82\x7f" + len(PIECE).to_bytes(8) + PIECE)
            await writer.drain()
        while data := await reader.read(1 << 16):
            taken += len(data)

    async with bare(browser.site, tell), browser.dial() as socket, asyncio.TaskGroup() as group:
        sending = group.create_task(send_all(socket))
        for _ in range(PIECES):
            assert await socket.receive_bytes(timeout=30) == PIECE
        await sending
        await until(lambda: taken > PIECES * len(PIECE))


async def send_all(socket: aiohttp.ClientWebSocketResponse) -> None:
    for _ in range(PIECES):
        await socket.send_bytes(PIECE)


async def test_an_app_that_answers_no_websocket_is_let_go_when_the_browser_leaves(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def dial() -> None:
        async with browser.dial():
            raise AssertionError("nobody answered")

    previews = browser.site.previews
    async with bare(browser.site, wait), asyncio.TaskGroup() as group:
        dialling = group.create_task(dial())
        await until(lambda: previews.live == 1)
        dialling.cancel()
        await until(lambda: previews.live == 0)
        monkeypatch.setattr(websocket, "ANSWER_S_MAX", 0.05)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await dial()
        assert refused.value.status == 502


async def test_nothing_listens_yet_is_a_page_that_looks_again(browser: Browser) -> None:
    async with browser.ask("GET", "/a?b", headers={"Accept": "text/html"}) as answer:
        html = await answer.text()
        assert answer.status == 502
    assert "Nothing listens on port 5173 yet." in html
    assert '<meta http-equiv="refresh" content="2">' in html
    async with browser.ask("POST", "/a", data=b"x") as answer:
        assert answer.status == 502
        assert (await answer.json())["title"] == "nothing_listens"


@pytest.mark.parametrize(
    ("code", "status", "again"),
    [
        ("workspace_gone", 410, False),
        ("workspace_stopped", 503, False),
        ("node_away", 503, True),
        ("ports_not_reached", 502, False),
    ],
)
async def test_a_workspace_that_is_not_there_says_so(
    browser: Browser, code: str, status: int, again: bool
) -> None:
    browser.site.previews.fail_next = UserError("The sentence.", code=code)
    async with browser.ask("GET", "/", headers={"Accept": "text/html"}) as answer:
        html = await answer.text()
        assert answer.status == status
    assert "The sentence." in html
    assert ("refresh" in html) is again


async def test_a_port_has_so_many_connections_and_no_more(
    browser: Browser, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINES_MAX", 5)
    monkeypatch.setattr(lines, "WAIT_S_MAX", 0.05)
    sockets = [await browser.dial() for _ in range(5)]
    async with browser.ask("GET", "/html") as answer:
        assert (answer.status, (await answer.json())["title"]) == (429, "preview_busy")
    for socket in sockets:
        await socket.close()
    await until(lambda: browser.site.previews.live == 0)
    async with browser.ask("GET", "/html") as answer:
        assert answer.status == 200


async def test_requests_wait_for_a_connection_and_idle_ones_refuse_nobody(
    browser: Browser, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINES_MAX", 2)
    monkeypatch.setattr(lines, "WAIT_S_MAX", 60.0)
    sockets = [await browser.dial() for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(read(browser.ask("GET", "/html"))) for _ in range(10)]
        asking += [group.create_task(read(browser.ask("POST", "/p", data=b"x"))) for _ in range(5)]
        await asyncio.wait(asking, timeout=0.1)
        assert not any(task.done() for task in asking)
        for socket in sockets:
            await socket.close()
    assert all(b"Shop" in task.result() for task in asking[:10])
    assert len(app.targets) == 5


# Who may be there


async def test_c1_only_the_ports_own_cookie_opens_it(browser: Browser, app: App) -> None:
    previews = browser.site.previews
    others = [
        previews.let_in(SPACE, PORT + 1),
        previews.let_in("other", PORT),
        *("", "forged", browser.site.cookie),
    ]
    for cookie in others:
        browser.cookie = cookie
        async with browser.ask("GET", "/html", headers={"Accept": "text/html"}) as answer:
            html = await answer.text()
            assert answer.status == 401, cookie
            assert f"/workspaces/{SPACE}/previews/{PORT}?to=%2Fhtml" in html
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await browser.dial()
    assert app.heads == []
    assert previews.connections == 0


async def test_the_pages_are_not_under_a_previews_name_nor_a_preview_under_theirs(
    browser: Browser, app: App
) -> None:
    async with browser.ask("GET", "/api/v1/health") as answer:
        assert json.loads(await answer.read())["target"] == "/api/v1/health"
    cookie = {"Cookie": f"samovar-preview={browser.cookie}", "Accept": "application/json"}
    async with browser.http.get(f"{browser.site.url}/api/v1/tasks", headers=cookie) as answer:
        assert answer.status == 401
    for label in ("ws-k3v9x203--0", "ws-k3v9x203--99999x", "ws-k3v9x203--05173", "x--5173"):
        headers = {**browser.headers, "Host": f"{label}.localhost"}
        async with browser.http.get(f"{browser.site.url}/", headers=headers) as answer:
            assert answer.status == 421, label


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost:5173\r\n\r\n"
INNER = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + INNER,
        b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        b"Content-Length: 0\r\nContent-Length: 55\r\n\r\n" + SMUGGLED,
        b"Content-Length: +0\r\n\r\n" + SMUGGLED,
        b"Content-Length: %d\r\nConnection: content-length\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n" + INNER,
        b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    ],
)
async def test_no_framing_of_a_request_becomes_two_at_the_app(
    browser: Browser, app: App, framing: bytes
) -> None:
    port = aiohttp.client.URL(browser.site.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "".join(f"{name}: {text}\r\n" for name, text in browser.headers.items())
    writer.write(b"POST /first HTTP/1.1\r\n" + head.encode() + framing)
    await reader.readline()
    writer.close()
    async with browser.ask("GET", "/last") as answer:
        assert answer.status == 200
    assert "/smuggled" not in app.targets
    assert app.targets[-1] == "/last"


async def test_another_origins_page_can_ask_for_nothing(browser: Browser, app: App) -> None:
    other = {"Origin": browser.site.preview("other", PORT)}
    site = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}
    for headers in (other, {"Origin": browser.site.url}, site):
        for method in ("GET", "POST", "OPTIONS"):
            async with browser.ask(method, "/html", headers=headers) as answer:
                assert answer.status == 403
                assert "Access-Control-Allow-Origin" not in answer.headers
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await browser.dial(headers=other)
    assert refused.value.status == 403
    assert browser.site.previews.connections == 0


async def test_a_person_at_a_page_keeps_the_workspace_and_the_page_itself_does_not(
    browser: Browser, app: App
) -> None:
    async with browser.ask("GET", "/html") as answer:
        assert answer.status == 200
    itself = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
    async with browser.ask("GET", "/html", headers=itself) as answer:
        assert answer.status == 200
    assert browser.site.previews.kept == []
    person = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"}
    for _ in range(3):
        async with browser.ask("GET", "/html", headers=person) as answer:
            assert answer.status == 200
    assert browser.site.previews.kept == [SPACE]


async def test_a_page_that_waits_for_something_to_listen_keeps_nothing(browser: Browser) -> None:
    person = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"}
    async with browser.ask("GET", "/", headers=person) as answer:
        assert answer.status == 502
    assert browser.site.previews.kept == []


async def test_what_is_withdrawn_ends_what_is_being_sent(
    browser: Browser, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(visits, "KNOWN_S", 0.01)
    async with browser.dial() as socket:
        await socket.send_str("a")
        assert await socket.receive_str() == "a"
        browser.site.previews.cookies.clear()
        await asyncio.sleep(0.1)  # Longer than what was found out is believed.
        await socket.send_str("b")
        end = await socket.receive()
        assert end.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE}


# The ways in


async def test_a_person_who_is_signed_in_goes_over_by_a_button(
    browser: Browser, app: App, http: aiohttp.ClientSession
) -> None:
    site = browser.site
    page = f"/workspaces/{SPACE}/previews/{PORT}"
    async with http.get(f"{page}?to=/html") as answer:
        html = await answer.text()
        assert answer.status == 200
    assert "something listens" in html
    assert 'value="/html"' in html
    data = {"to": "/html"}
    async with http.post(f"{page}/enter", data=data, allow_redirects=False) as answer:
        there = aiohttp.client.URL(answer.headers["Location"])
        assert answer.status == 303
    assert str(there.origin()) == site.preview(SPACE, PORT)
    async with browser.ask("GET", there.path_qs) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/html")
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Domain" not in cookie
    browser.cookie = cookie.partition("=")[2].partition(";")[0]
    async with browser.ask("GET", "/html") as answer:
        assert "The shop" in await answer.text()
    async with browser.ask("GET", there.path_qs) as answer:
        assert answer.status == 401, "a pass is good once"
    assert app.heads == []


@pytest.mark.parametrize(
    "to", ["//evil.com", "https://evil.com", "/\\evil.com", "javascript:alert(1)"]
)
async def test_a_way_in_leads_nowhere_else(browser: Browser, app: App, to: str) -> None:
    handed = await browser.site.previews.hand_over(browser.site.person, SPACE, PORT)
    url = aiohttp.client.URL("/__samovar/enter").with_query(handed=handed, to=to)
    async with browser.ask("GET", url.path_qs) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_c9_a_link_is_spent_by_a_button_and_by_no_program_that_looks_at_it(
    browser: Browser, app: App
) -> None:
    site, http = browser.site, browser.http
    path = await site.previews.share(site.person, SPACE, PORT, hours=1)
    for _ in range(3):
        async with http.get(f"{site.url}{path}") as answer:
            assert answer.status == 200
            assert f"Open port {PORT}" in await answer.text()
        async with http.head(f"{site.url}{path}") as answer:
            assert answer.status == 200
    data = {"link": path.partition("=")[2]}
    there = f"{site.url}/preview"
    async with http.post(there, data=data, allow_redirects=False) as answer:
        assert answer.status == 403, "a form of another origin"
    headers = site.origin
    async with http.post(there, data=data, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
        over = aiohttp.client.URL(answer.headers["Location"])
    async with http.post(there, data=data, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 403, "a link is good once"
    async with browser.ask("GET", over.path_qs) as answer:
        browser.cookie = answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    async with browser.ask("GET", "/html") as answer:
        assert answer.status == 200


async def test_what_listens_is_shown_with_its_names(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.previews.apps |= {(SPACE, 5173): 1, (SPACE, 8000): 2}
    site.previews.names[SPACE, 5173] = "The <shop>"
    async with http.get(f"/workspaces/{SPACE}/ports") as answer:
        html = await answer.text()
    assert "The &lt;shop&gt;" in html
    assert f'action="/workspaces/{SPACE}/previews/8000/enter"' in html
    async with http.get(f"/api/v1/workspaces/{SPACE}/ports") as answer:
        ports = (await answer.json())["ports"]
    assert [(one["port"], one["name"], one["audience"]) for one in ports] == [
        (5173, "The <shop>", "owner"),
        (8000, "", "owner"),
    ]
    assert ports[0]["url"] == f"{site.url}/workspaces/{SPACE}/previews/5173"


async def test_the_owner_opens_a_port_and_makes_links(
    site: Site, http: aiohttp.ClientSession
) -> None:
    page = f"/workspaces/{SPACE}/previews/{PORT}"
    async with http.post(f"{page}/audience", data={"audience": "project"}) as answer:
        assert answer.status == 200
        assert "Everybody of the project" in await answer.text()
    async with http.post(f"{page}/audience", data={"audience": "world"}) as answer:
        assert answer.status == 422
    async with http.post(f"{page}/links", data={"hours": "24"}) as answer:
        assert f"{site.url}/preview?link=link-1" in await answer.text()
    made = http.post(f"/api/v1/workspaces/{SPACE}/ports/{PORT}/links", json={"hours": 1})
    async with made as answer:
        assert (await answer.json())["path"] == "/preview?link=link-2"
    site.previews.strangers.add(site.person.name)
    async with http.get(page) as answer:
        assert answer.status == 403


async def test_https_binds_the_cookie_to_its_host(site: Site) -> None:
    from adapters.web.hosts import Hosts
    from adapters.web.preview.site import PreviewSite

    hosts = Hosts(public_url="https://samovar.example.com", domain="ws.example.com")
    whole = PreviewSite(site.previews, hosts)
    handed = await site.previews.hand_over(site.person, SPACE, PORT)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/__samovar/enter",
        "raw_path": b"/__samovar/enter",
        "query_string": f"handed={handed}".encode(),
        "headers": [],
        "samovar.workspace": SPACE,
        "samovar.port": PORT,
    }
    await whole(scope, receive, send)
    cookie = dict(sent[0]["headers"])[b"set-cookie"].decode()
    assert cookie.startswith("__Host-samovar-preview=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
