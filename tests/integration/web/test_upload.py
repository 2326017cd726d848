"""Files that are sent and fetched by the JSON API, as pages and programs do it."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from adapters.web.shield import BODY_BYTES_MAX
from core.browse import Entry, Listing
from tests.fakes.commands import a_person
from tests.fakes.serving import until
from tests.fakes.web import Setup, Site, a_site

FILES = "/api/v1/workspaces/k3v9x201/files/"


def at(path: str) -> URL:
    """The address of a file: its percent-encoded path, encoded once more."""
    return URL(FILES + quote(path, safe="/"), encoded=True)


@pytest.mark.parametrize("size", [0, 5, BODY_BYTES_MAX + 1, 20_000_000])
async def test_a_file_of_any_size_arrives_and_comes_back(
    site: Site, http: aiohttp.ClientSession, size: int
) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = "made/%FF%25%0A.bin"
    async with http.put(at(path), data=BytesIO(data)) as answer:
        assert answer.status == 204, await answer.text()
    assert site.commands.files[path] == data
    assert site.commands.calls[-1] == ("put_file", ("k3v9x201", path, size, False))
    async with http.get(at(path)) as answer:
        assert await answer.read() == data
        assert answer.headers["Content-Disposition"] == "attachment"


async def test_a_file_that_is_there_is_replaced_when_it_is_said(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.files["a"] = b"old"
    async with http.put(at("a"), data=BytesIO(b"x" * 5_000_000)) as answer:
        assert (answer.status, (await answer.json())["title"]) == (400, "file_exists")
    assert site.commands.files["a"] == b"old"
    async with http.put(at("a").with_query(replaces="true"), data=b"new") as answer:
        assert answer.status == 204
    assert site.commands.files["a"] == b"new"


async def test_a_refusal_comes_before_the_body_of_who_waits_for_it(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.files["a"] = b"old"
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 65536

    async with http.put(at("a"), data=pieces(), expect100=True) as answer:
        assert answer.status == 400
    assert sent == 0


async def test_a_sender_that_goes_away_in_the_middle_writes_nothing(site: Site) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", URL(site.url).port)
    head = [
        f"PUT {at('a')} HTTP/1.1",
        f"Host: {site.url.partition('//')[2]}",
        f"Origin: {site.url}",
        f"Cookie: samovar={site.cookie}",
        "Content-Length: 1000",
    ]
    writer.write("\r\n".join([*head, "", "half of it"]).encode())
    await until(lambda: site.commands.calls[-1:] == [("put_file", ("k3v9x201", "a", 1000, False))])
    writer.close()
    await writer.wait_closed()
    async with (
        aiohttp.ClientSession(site.url, cookies=site.cookies) as http,
        http.get("/api/v1/workspaces") as answer,
    ):
        assert answer.status == 200
    assert site.commands.files == {}


async def test_only_a_file_may_be_larger_than_a_request(
    site: Site, http: aiohttp.ClientSession
) -> None:
    large = BytesIO(b"x" * (BODY_BYTES_MAX + 1))
    for method, path in (("POST", str(at("a"))), ("PUT", "/api/v1/workspaces/k3v9x201/files")):
        async with http.request(method, path, data=large) as answer:
            assert answer.status == 413
        large = BytesIO(b"x" * (BODY_BYTES_MAX + 1))


async def test_c1_another_origin_or_a_stranger_writes_nothing(site: Site) -> None:
    async with aiohttp.ClientSession(site.url, cookies=site.cookies) as http:
        for headers in ({}, {"Origin": "https://evil.example"}):
            async with http.put(at("a"), data=b"x", headers=headers) as answer:
                assert answer.status == 403
    async with (
        aiohttp.ClientSession(site.url, headers=site.origin) as http,
        http.put(at("a"), data=b"x") as answer,
    ):
        assert answer.status == 401
    assert site.commands.files == {}


async def test_who_may_only_look_sends_nothing_and_is_shown_no_box() -> None:
    setup = Setup(person=a_person("viewer", "Vi"))
    setup.commands.folders[""] = Listing(entries=(Entry(name="a", kind="file"),))
    async with (
        a_site(setup) as site,
        aiohttp.ClientSession(site.url, cookies=site.cookies, headers=site.origin) as http,
    ):
        async with http.put(at("b"), data=b"x") as answer:
            assert answer.status == 403
        async with http.get("/workspaces/k3v9x201/files/") as answer:
            assert "data-upload" not in await answer.text()


async def test_a_folders_page_says_how_large_a_file_may_be(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.folders[""] = Listing(entries=(Entry(name="%22%3Cb%3E", kind="file"),))
    async with http.get("/workspaces/k3v9x201/files/") as answer:
        html = await answer.text()
    assert f'data-upload="{FILES}"' in html
    assert 'data-names="[&#34;%22%3Cb%3E&#34;]"' in html
    assert "A file may have" in html
    async with http.get("/api/v1/workspaces/k3v9x201/folders/") as answer:
        assert (await answer.json())["entries"][0]["name"] == "%22%3Cb%3E"
