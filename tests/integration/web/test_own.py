"""A workspace's own origin: who gets in and how, what is there, what is not."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
import pytest

from adapters.web.shield import BODY_BYTES_MAX
from core.access import Person
from core.ids import WorkspaceId
from core.ports.commands import Guest
from core.viewing import (
    CLOSE_AWAY,
    CLOSE_MISSING,
    CLOSE_UNREADABLE,
    INPUT_BYTES_MAX,
    Beat,
    Exited,
    Fit,
    Input,
    Look,
    Output,
    Paint,
    Resized,
    Seen,
    Size,
    Viewer,
    Viewers,
    decode,
    encode,
)
from tests.fakes.commands import a_person
from tests.fakes.serving import until
from tests.fakes.terminal import FakeTerminal
from tests.fakes.web import Site

SPACE, OTHER = WorkspaceId("k3v9x203"), WorkspaceId("k3v9x204")
Http = aiohttp.ClientSession


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def own(site: Site, workspace: WorkspaceId = SPACE, cookie: str = "") -> dict[str, str]:
    """Headers as a browser sends them to a workspace's origin."""
    origin = site.own(workspace)
    host = origin.partition("//")[2]
    given = {"Cookie": f"samovar-workspace={cookie}"} if cookie else {}
    return {"Host": host, "Origin": origin, "Accept": "application/json", **given}


def let_in(site: Site, person: Person | None = None, workspace: WorkspaceId = SPACE) -> str:
    """Return a cookie of a workspace."""
    cookie = f"cookie-{len(site.commands.doors.cookies)}"
    guest = Guest(person=person or site.person, workspace=workspace)
    site.commands.doors.cookies[cookie] = guest
    return cookie


ROUTES = [
    ("GET", "/"),
    ("GET", "/terminals"),
    ("POST", "/terminals"),
    ("PATCH", "/terminals/k3v9x203.t1"),
    ("DELETE", "/terminals/k3v9x203.t1"),
]


async def test_c1_a_workspaces_routes_open_to_its_cookie_alone(site: Site, http: Http) -> None:
    mine = await site.commands.open_terminal(site.person, SPACE)
    others = let_in(site, workspace=OTHER)
    strangers = ["", "forged", others, site.cookie]
    for method, path in ROUTES:
        for cookie in strangers:
            headers = {**own(site, cookie=cookie), "X-Pages": f"samovar={site.cookie}"}
            url = f"{site.url}{path}"
            async with http.request(method, url, headers=headers, json={"title": "x"}) as answer:
                assert answer.status == 401, (method, path, cookie)
    assert site.commands.tabs == {mine.id: mine}
    for method, path in ROUTES:
        headers = own(site, cookie=let_in(site))
        async with http.request(
            method, f"{site.url}{path}", headers=headers, json={"title": "x"}
        ) as answer:
            assert answer.status in {200, 201, 204}, (method, path)


async def test_c9_the_cookie_of_a_workspace_reaches_no_terminal_of_another(
    site: Site, http: Http
) -> None:
    mine = await site.commands.open_terminal(site.person, SPACE)
    theirs = await site.commands.open_terminal(site.person, OTHER)
    headers = own(site, cookie=let_in(site))
    url = f"{site.url}/terminals/{theirs.id}"
    async with http.patch(url, headers=headers, json={"title": "x"}) as answer:
        assert answer.status == 404
    async with http.delete(url, headers=headers) as answer:
        assert answer.status == 404
    async with http.ws_connect(url, headers=headers) as socket:
        await socket.receive()
        assert socket.close_code == CLOSE_MISSING
    assert site.commands.tabs == {mine.id: mine, theirs.id: theirs}
    assert site.commands.terminals_of[mine.id].views == []


@pytest.mark.parametrize("path", ["/tasks/T-3", "/api/v1/tasks", "/workspaces", "/sign-in"])
async def test_nothing_of_the_pages_is_on_a_workspaces_origin(
    path: str, site: Site, http: Http
) -> None:
    headers = own(site, cookie=let_in(site))
    headers["Cookie"] += f"; samovar={site.cookie}"
    async with http.get(site.url + path, headers=headers) as answer:
        assert answer.status == 404


async def test_a_workspaces_cookie_opens_nothing_of_the_pages(site: Site, http: Http) -> None:
    cookie = let_in(site)
    headers = {"Cookie": f"samovar-workspace={cookie}; samovar={cookie}"}
    async with http.get(f"{site.url}/api/v1/tasks", headers=headers) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "pages", "other"])
async def test_a_change_or_a_socket_from_another_origin_is_refused(
    origin: str | None, site: Site, http: Http
) -> None:
    tab = await site.commands.open_terminal(site.person, SPACE)
    headers = own(site, cookie=let_in(site))
    del headers["Origin"]
    named = {"pages": site.url, "other": site.own(OTHER)}
    if origin:
        headers["Origin"] = named.get(origin, origin)
    async with http.post(f"{site.url}/terminals", headers=headers) as answer:
        assert answer.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{site.url}/terminals/{tab.id}", headers=headers)
    assert refused.value.status == 403
    assert len(site.commands.tabs) == 1
    assert site.commands.terminals_of[tab.id].views == []


async def test_every_answer_of_a_workspaces_origin_keeps_it_apart(site: Site, http: Http) -> None:
    cookie = let_in(site)
    paths = ("/", "/nope", "/static/terminal.js", "/terminals", "/enter?handed=x")
    for path in paths:
        for given in ("", cookie):
            headers = own(site, cookie=given)
            async with http.get(site.url + path, headers=headers, allow_redirects=False) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert f"frame-ancestors 'self' {site.url}" in policy
                socket = site.own(SPACE).replace("http", "ws", 1)
                assert f"connect-src 'self' {socket};" in policy
                assert "form-action 'none'" in policy
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_large_request_is_refused(site: Site, http: Http) -> None:
    headers = own(site, cookie=let_in(site))
    body = BytesIO(b"x" * (BODY_BYTES_MAX + 1))
    async with http.post(f"{site.url}/terminals", headers=headers, data=body) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("body", [{"title": ""}, {"title": "x" * 61}, {"position": -1}])
async def test_a_change_that_makes_no_sense_is_refused(
    body: dict[str, object], site: Site, http: Http
) -> None:
    tab = await site.commands.open_terminal(site.person, SPACE)
    headers = own(site, cookie=let_in(site))
    async with http.patch(f"{site.url}/terminals/{tab.id}", headers=headers, json=body) as answer:
        assert answer.status == 422
    assert site.commands.tabs == {tab.id: tab}


@pytest.mark.parametrize(
    "host", ["evil.example", "ws-a--0.localhost", "x.localhost", "ws-.localhost"]
)
async def test_an_unknown_host_is_told_where_samovar_is(host: str, site: Site, http: Http) -> None:
    headers = {"Host": host, "Cookie": f"samovar={site.cookie}"}
    for path in ("/", "/api/v1/tasks", "/tasks/T-3"):
        async with http.get(site.url + path, headers=headers) as answer:
            assert answer.status == 421
            assert site.url in await answer.text() or path.startswith("/api/")


async def test_a_workspace_that_never_was_is_not_found(site: Site, http: Http) -> None:
    headers = own(site, WorkspaceId("nope"), cookie=let_in(site))
    async with http.get(f"{site.url}/", headers=headers) as answer:
        assert answer.status == 404


async def test_a_deleted_workspace_is_gone_for_all_and_says_what_to_do(
    site: Site, http: Http
) -> None:
    tab = await site.commands.open_terminal(site.person, SPACE)
    cookie = let_in(site)
    site.commands.lose_workspace(SPACE)
    for given in ("", cookie):
        headers = {**own(site, cookie=given), "Accept": "text/html"}
        async with http.get(f"{site.url}/", headers=headers) as answer:
            assert answer.status == 410
            page = await answer.text()
            assert "was deleted" in page
            assert "Or reply in the thread of" in page
            assert f'href="{site.url}/copies"' in page
    async with http.post(f"{site.url}/terminals", headers=own(site, cookie=cookie)) as answer:
        assert answer.status == 410
    url = f"{site.url}/terminals/{tab.id}"
    async with http.ws_connect(url, headers=own(site, cookie=cookie)) as socket:
        message = await socket.receive()
        assert socket.close_code == CLOSE_MISSING
        assert "was deleted" in str(message.extra)
    signed_in = {"Cookie": f"samovar={site.cookie}", **site.origin}
    async with http.post(f"{site.url}/workspaces/{SPACE}/enter", headers=signed_in) as answer:
        assert answer.status == 410


# Links


async def link_to(site: Site, person: Person) -> str:
    return site.url + await site.commands.workspace_link(person, SPACE)


async def test_c9_a_link_preview_neither_opens_nor_burns_a_link(site: Site, http: Http) -> None:
    url = await link_to(site, site.person)
    for method in ("GET", "HEAD", "GET"):
        async with http.request(method, url) as looked:
            assert looked.status == 200
            assert "Set-Cookie" not in looked.headers
            if method == "GET":
                assert f"Ana, open workspace {SPACE}?" in await looked.text()
    secret = url.partition("link=")[2]
    async with http.post(
        f"{site.url}/enter", data={"link": secret}, headers=site.origin, allow_redirects=False
    ) as entered:
        assert entered.status == 303
        handed = entered.headers["Location"]
    assert handed.startswith(f"{site.own(SPACE)}/enter?handed=")
    assert secret not in handed
    path = handed.removeprefix(site.own(SPACE))
    headers = own(site)
    del headers["Origin"]
    async with http.get(site.url + path, headers=headers, allow_redirects=False) as welcome:
        assert welcome.status == 303
        assert welcome.headers["Location"] == "/"
        cookie = welcome.headers["Set-Cookie"]
    assert "Domain" not in cookie
    assert "HttpOnly" in cookie
    assert "Path=/" in cookie
    value = re.match(r"samovar-workspace=([^;]+)", cookie)
    assert value is not None
    async with http.get(f"{site.url}/", headers=own(site, cookie=value[1])) as answer:
        assert answer.status == 200
    async with http.get(site.url + path, headers=headers, allow_redirects=False) as again:
        assert "Set-Cookie" not in again.headers, "a pass is good once"


async def refused(http: Http, site: Site, link: str, cookie: str = "") -> str:
    """Press the button of a link; it must be refused. Return the page."""
    headers = {**site.origin, **({"Cookie": f"samovar={cookie}"} if cookie else {})}
    url = f"{site.url}/enter"
    async with http.post(
        url, data={"link": link}, headers=headers, allow_redirects=False
    ) as answer:
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers
        return await answer.text()


async def test_c9_a_link_works_once_and_not_after_its_time(site: Site, http: Http) -> None:
    link = (await link_to(site, site.person)).partition("link=")[2]
    form = {"link": link}
    async with http.post(
        f"{site.url}/enter", data=form, headers=site.origin, allow_redirects=False
    ) as entered:
        assert entered.status == 303
    assert "used already" in await refused(http, site, link)
    late = (await link_to(site, site.person)).partition("link=")[2]
    site.commands.doors.expire()
    for spent in (late, link, "unknown", ""):
        page = await refused(http, site, spent)
        assert "Open terminal" in page
        async with http.get(f"{site.url}/enter", params={"link": spent}) as looked:
            assert looked.status == 403


async def test_c9_a_link_is_refused_where_another_person_is_signed_in(
    site: Site, http: Http
) -> None:
    ben = a_person("member", "Ben")
    bens = site.sign_in.signed_in(ben)
    url = await link_to(site, site.person)
    link = url.partition("link=")[2]
    async with http.get(url, headers={"Cookie": f"samovar={bens}"}) as looked:
        assert looked.status == 403
        assert "for Ana, and Ben is signed in" in await looked.text()
    page = await refused(http, site, link, bens)
    assert "It was not used up" in page
    async with http.post(
        f"{site.url}/enter",
        data={"link": link},
        headers={**site.origin, "Cookie": f"samovar={site.cookie}"},
        allow_redirects=False,
    ) as entered:
        assert entered.status == 303


async def test_a_pass_opens_no_other_workspace(site: Site, http: Http) -> None:
    handed = await site.commands.doors.hand_over(site.person, SPACE)
    url = f"{site.url}/enter?handed={handed}"
    async with http.get(url, headers=own(site, OTHER), allow_redirects=False) as answer:
        assert answer.status == 303
        assert "Set-Cookie" not in answer.headers


async def test_the_button_hands_over_whoever_is_signed_in(site: Site, http: Http) -> None:
    url = f"{site.url}/workspaces/{SPACE}/enter"
    async with http.post(url, headers=site.origin) as answer:
        assert answer.status == 401
    headers = {**site.origin, "Cookie": f"samovar={site.cookie}"}
    async with http.post(url, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Location"].startswith(f"{site.own(SPACE)}/enter?handed=")
    (guest,) = site.commands.doors.passes.values()
    assert guest == Guest(person=site.person, workspace=SPACE)
    headers["Origin"] = "http://evil.example"
    async with http.post(url, headers=headers) as answer:
        assert answer.status == 403


async def test_forms_of_the_pages_may_lead_to_workspaces_and_nowhere_else(
    site: Site, http: Http
) -> None:
    port = site.url.rpartition(":")[2]
    async with http.get(f"{site.url}/sign-in") as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert f"form-action 'self' http://*.localhost:{port};" in policy


# Frames


@asynccontextmanager
async def a_view(
    site: Site, http: Http, cookie: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    (tab,) = site.commands.tabs
    url = f"{site.url}/terminals/{tab}"
    async with http.ws_connect(url, headers=own(site, cookie=cookie)) as socket:
        yield socket


@pytest.fixture
async def echo(site: Site) -> FakeTerminal:
    """A terminal that says what it is told."""
    site.commands.shell = lambda: FakeTerminal(("cat",))
    tab = await site.commands.open_terminal(site.person, SPACE)
    return site.commands.terminals_of[tab.id]


async def test_frames_go_through_both_ways(site: Site, http: Http, echo: FakeTerminal) -> None:
    async with a_view(site, http, let_in(site)) as socket:
        await socket.send_bytes(encode(Look(Size(90, 30))))
        assert decode(await socket.receive_bytes()) == Resized(Size(90, 30))
        assert decode(await socket.receive_bytes()) == Paint(0, Size(90, 30), b"")
        ana = Viewer(name="Ana", writes=True, is_active=True)
        assert decode(await socket.receive_bytes()) == Viewers((ana,))
        await socket.send_bytes(encode(Input(b"tea\n")))
        got = b""
        while not got.endswith(b"tea\r\ntea\r\n"):
            frame = decode(await socket.receive_bytes())
            assert isinstance(frame, Output)
            assert frame.offset == len(got)
            got += frame.data
        await socket.send_bytes(encode(Seen(len(got))))
        await socket.send_bytes(encode(Fit(Size(70, 20))))
        assert decode(await socket.receive_bytes()) == Resized(Size(70, 20))
        await socket.send_bytes(encode(Beat()))
        assert decode(await socket.receive_bytes()) == Beat()
        await socket.send_bytes(encode(Input(b"\x04")))
        frame = decode(await socket.receive_bytes())
        while isinstance(frame, Output):
            frame = decode(await socket.receive_bytes())
        assert frame == Exited(0)
    await until(lambda: not echo.views)


async def test_the_end_of_a_view_is_told_with_its_reason(
    site: Site, http: Http, echo: FakeTerminal
) -> None:
    async with a_view(site, http, let_in(site)) as socket:
        await socket.send_bytes(encode(Look(Size(90, 30))))
        await socket.receive_bytes()
        echo.cut(CLOSE_AWAY, "ä" * 200)
        message = await socket.receive()
        while message.type is aiohttp.WSMsgType.BINARY:
            message = await socket.receive()
        assert socket.close_code == CLOSE_AWAY
        assert str(message.extra).startswith("ää")


@pytest.mark.parametrize("message", [b"I" + b"x" * (INPUT_BYTES_MAX + 1), "text"])
async def test_what_is_no_frame_of_a_viewer_ends_its_view_and_no_other(
    message: bytes | str, site: Site, http: Http, echo: FakeTerminal
) -> None:
    async with a_view(site, http, let_in(site)) as good, a_view(site, http, let_in(site)) as bad:
        await good.send_bytes(encode(Look(Size(90, 30))))
        if isinstance(message, bytes):
            await bad.send_bytes(message)
        else:
            await bad.send_str(message)
        await bad.receive()
        assert bad.close_code == CLOSE_UNREADABLE
        assert decode(await good.receive_bytes()) == Resized(Size(90, 30))


async def test_a_terminal_of_a_node_that_is_away_may_be_dialled_again(
    site: Site, http: Http
) -> None:
    site.commands.opens = False
    await site.commands.open_terminal(site.person, SPACE)
    async with a_view(site, http, let_in(site)) as socket:
        await socket.receive()
        assert socket.close_code == CLOSE_AWAY


async def test_whoever_may_look_no_more_sees_no_more(
    site: Site, http: Http, echo: FakeTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.web.viewing.LOOK_AGAIN_S", 0.05)
    cookie = let_in(site)
    async with a_view(site, http, cookie) as socket:
        await socket.send_bytes(encode(Look(Size(90, 30))))
        await socket.receive_bytes()
        del site.commands.doors.cookies[cookie]
        while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
        assert socket.close_code == CLOSE_MISSING
    await until(lambda: not echo.views)
