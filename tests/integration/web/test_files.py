"""Pages of a workspace's files and changes, as a browser uses them."""

import html
import re

import aiohttp
from yarl import URL

from core.browse import SHOWN_BYTES_MAX, Change, Changes, Entry, Listing
from core.errors import UserError
from tests.fakes.web import Site

SPACE = "/workspaces/k3v9x201"
DIFF = """\
diff --git a/src/app.py b/src/app.py
index 1..2 100644
--- a/src/app.py
+++ b/src/app.py
@@ -1,2 +1,2 @@
 import os
-x = 1
+x = "<b>"
"""


async def get(http: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with http.get(URL(path, encoded=True)) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


async def follow(http: aiohttp.ClientSession, page: str, words: str) -> str:
    """Follow the link with these words, as a browser does."""
    (link,) = re.findall(rf'href="([^"]+)"[^>]*>(?:<code>)?{re.escape(words)}', page)
    return await get(http, html.unescape(link))


async def test_people_walk_from_the_workspace_to_a_line_of_a_file(
    site: Site, http: aiohttp.ClientSession
) -> None:
    folder = Entry(name="%C3%BCber%20all", kind="folder")
    site.commands.folders[""] = Listing(entries=(folder,))
    site.commands.folders["%C3%BCber%20all/"] = Listing(
        entries=(Entry(name="app.py", kind="file", size=12, modified_at=1.7e9),)
    )
    site.commands.files["%C3%BCber%20all/app.py"] = b"import os\nx = 1\n"
    page = await follow(http, await get(http, SPACE), "Files")
    page = await follow(http, page, "über all/")
    assert "12 B" in page
    page = await follow(http, page, "app.py")
    assert 'id="L2"' in page
    assert 'id="L3"' not in page
    assert '<span class="kn">import</span>' in page
    assert "2 lines" in page


async def test_a_name_of_any_bytes_is_reached_and_downloaded(
    site: Site, http: aiohttp.ClientSession
) -> None:
    name = "%FF%25%22%0A%3Cscript%3E"
    site.commands.folders[""] = Listing(entries=(Entry(name=name, kind="file"),))
    site.commands.files[name] = bytes(range(256))
    page = await get(http, f"{SPACE}/files/")
    assert "<script>" not in page.replace('<script type="module"', "")
    (link,) = re.findall(r'href="(/workspaces/k3v9x201/files/[^"]+)"', page.split("<table")[1])
    page = await get(http, html.unescape(link))
    assert "This is no text" in page
    (link,) = re.findall(r'href="([^"]+/download/[^"]+)"', page)
    async with http.get(URL(html.unescape(link), encoded=True)) as answer:
        assert await answer.read() == bytes(range(256))
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{name}"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox")


async def test_a_long_file_is_shown_in_part_and_downloaded_whole(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.files["big.txt"] = b"line\n" * (SHOWN_BYTES_MAX // 4)
    page = await get(http, f"{SPACE}/files/big.txt")
    assert "The beginning, 5000 lines" in page
    assert page.count("<tr") == 5000
    async with http.get(f"{SPACE}/download/big.txt") as answer:
        assert len(await answer.read()) == len(site.commands.files["big.txt"])


async def test_what_changed_is_shown_line_by_line_with_its_syntax(
    site: Site, http: aiohttp.ClientSession
) -> None:
    status = (Change(path="a%20b.txt", index="?", tree="?"),)
    site.commands.changed = Changes(base="9f2c1ab0d3ffff", status=status, diff=DIFF, is_cut=True)
    page = await follow(http, await get(http, SPACE), "Changes")
    assert "9f2c1ab0d3<" in page
    assert "a b.txt" in page
    assert '<tr class="is-add"><td class="line-no"></td><td class="line-no">2</td>' in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "git diff 9f2c1ab0d3" in page


async def test_very_many_lines_of_status_are_counted_and_not_all_shown(
    site: Site, http: aiohttp.ClientSession
) -> None:
    status = tuple(Change(path=f"f{n}", index="?", tree="?") for n in range(1234))
    site.commands.changed = Changes(base="9f2c1ab0d3", status=status)
    page = await get(http, f"{SPACE}/changes")
    assert page.count('class="letters"') == 1000
    assert "And 234 more." in page


async def test_a_workspace_without_changes_says_so(http: aiohttp.ClientSession) -> None:
    assert "Nothing has changed yet" in await get(http, f"{SPACE}/changes")


async def test_what_is_not_there_and_a_machine_that_is_away_have_their_sentences(
    site: Site, http: aiohttp.ClientSession
) -> None:
    assert "no nope" in await get(http, f"{SPACE}/files/nope", 404)
    assert "no nope/" in await get(http, f"{SPACE}/files/nope/", 404)
    assert "no nope" in await get(http, f"{SPACE}/download/nope", 404)
    site.commands.fail_next["changes"] = UserError("It is on node-1, which does not answer.")
    assert "does not answer" in await get(http, f"{SPACE}/changes", 400)


async def test_a_file_that_a_tool_named_leads_to_its_page(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.files["src/my%20app.py"] = b"x = 1\n"
    session = next(iter(site.commands.told))
    link = f"/sessions/{session}/file?path=/workspaces/web/src/my%20app.py"
    assert "my app.py" in await get(http, link)
    await get(http, f"/sessions/{session}/file?path=/etc/passwd", 404)
