"""Whole workspaces by page and JSON API: made, stopped, put back, made anew, restored."""

import re

import aiohttp

from core.ids import WorkspaceId
from tests.fakes.commands import a_person
from tests.fakes.web import Site
from tests.integration.web.test_pages import page

SPACE = WorkspaceId("k3v9x201")


def asked(site: Site, method: str) -> list[object]:
    return [what for name, what in site.commands.calls if name == method]


async def test_a_workspace_is_made_by_a_form_once(site: Site, http: aiohttp.ClientSession) -> None:
    shown = await page(http, "/workspaces?project=till")
    assert '<option value="till" selected>' in shown
    key = re.search(r'name="key" value="(\w+)"', shown)
    assert key is not None
    form = {"project": "till", "size": "medium", "branch": " topic ", "key": key[1]}
    for _ in range(2):
        async with http.post("/workspaces", data=form, allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.headers["Location"] == f"/workspaces/hand{key[1]}"
    assert asked(site, "new_workspace")[-1] == ("till", "medium", "topic")
    made = await page(http, f"/workspaces/hand{key[1]}")
    assert "waits for a machine with room, number 1" in made
    assert "Open terminal" not in made


async def test_a_workspace_is_stopped_says_until_when_and_comes_back(
    site: Site, http: aiohttp.ClientSession
) -> None:
    assert "Rebuild" in await page(http, f"/workspaces/{SPACE}")
    async with http.post(f"/workspaces/{SPACE}/stop") as answer:
        assert answer.url.path == f"/workspaces/{SPACE}"
    shown = await page(http, f"/workspaces/{SPACE}")
    assert "48.2 MB" in shown
    assert "24 Dec" in shown
    assert "node_modules, .venv" in shown
    assert "Open terminal" not in shown
    async with http.post(f"/workspaces/{SPACE}/restart") as answer:
        assert answer.url.path == f"/workspaces/{SPACE}"
    assert asked(site, "restart_workspace") == [SPACE]


async def test_a_stopped_workspaces_own_address_leads_to_where_it_is_restarted(
    site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.rest(SPACE)
    async with aiohttp.ClientSession() as stranger:
        host = site.own(SPACE).removeprefix("http://")
        headers = {"Host": host, "Accept": "text/html"}
        async with stranger.get(f"{site.url}/", headers=headers) as answer:
            assert answer.status == 409
            text = await answer.text()
    assert "is stopped" in text
    assert f'href="{site.url}/workspaces/{SPACE}"' in text


async def test_what_is_asleep_says_so(site: Site, http: aiohttp.ClientSession) -> None:
    site.commands.rest(SPACE, "slept")
    assert "asleep" in await page(http, "/workspaces")
    assert "asleep" in await page(http, f"/workspaces/{SPACE}")


async def test_a_copy_is_restored_by_page_and_api(site: Site, http: aiohttp.ClientSession) -> None:
    assert "There are none" in await page(http, "/copies")
    copy = site.commands.rest(SPACE, "deleted")
    shown = await page(http, "/copies")
    assert f'action="/copies/{copy.id}/restore"' in shown
    assert "2 not in it" in shown
    async with http.post(f"/copies/{copy.id}/restore", data={"key": "k"}) as answer:
        assert answer.url.path == "/workspaces/handk"
    async with http.get("/api/v1/rescue-copies") as answer:
        assert [one["id"] for one in (await answer.json())["copies"]] == [copy.id]
    path = f"/api/v1/rescue-copies/{copy.id}/restore"
    async with http.post(path, json={"key": "api"}) as answer:
        assert (answer.status, (await answer.json())["workspace"]["id"]) == (202, "handapi")
    async with http.post("/api/v1/rescue-copies/nope-1/restore", json={}) as answer:
        assert answer.status == 404


async def test_the_api_makes_and_moves_workspaces(site: Site, http: aiohttp.ClientSession) -> None:
    body = {"project": "web", "branch": "topic", "key": "one"}
    async with http.post("/api/v1/workspaces", json=body) as answer:
        assert (answer.status, (await answer.json())["workspace"]["branch"]) == (202, "topic")
    for what in ("rebuild", "stop", "restart"):
        async with http.post(f"/api/v1/workspaces/{SPACE}/{what}") as answer:
            assert answer.status == 204
        assert asked(site, f"{what}_workspace") == [SPACE]
    async with http.post("/api/v1/workspaces", json={"project": "nope"}) as answer:
        assert answer.status == 404


async def test_what_could_not_be_saved_can_be_thrown_away(
    site: Site, http: aiohttp.ClientSession
) -> None:
    assert "Delete without a copy" not in await page(http, f"/workspaces/{SPACE}")
    site.commands.fails(SPACE, "It was not deleted, because its work could not be saved: no room.")
    shown = await page(http, f"/workspaces/{SPACE}")
    assert "Throw away everything in it that was not pushed" in shown
    form = re.search(r'name="(without_copy)" value="(true)"', shown)
    assert form is not None
    async with http.post(f"/workspaces/{SPACE}/delete", data={form[1]: form[2]}) as answer:
        assert answer.url.path == "/workspaces"
    assert asked(site, "discard_workspace") == [SPACE]


async def test_the_api_throws_away_only_when_it_is_told_to(
    site: Site, http: aiohttp.ClientSession
) -> None:
    made = site.commands.rest(SPACE).workspace_id
    async with http.delete(f"/api/v1/workspaces/{made}?without_copy=true") as answer:
        assert answer.status == 204
    assert (asked(site, "discard_workspace"), asked(site, "delete_workspace")) == ([SPACE], [])


async def test_c8_a_viewer_sees_no_buttons_for_workspaces(site: Site) -> None:
    site.commands.rest(SPACE)
    cookies = {"samovar": site.sign_in.signed_in(a_person("viewer", "Vera"))}
    headers = {**site.origin, "Accept": "text/html"}
    async with aiohttp.ClientSession(site.url, cookies=cookies, headers=headers) as http:
        assert "Make it" not in await page(http, "/workspaces")
        assert "/restart" not in await page(http, f"/workspaces/{SPACE}")
        for path in (f"/workspaces/{SPACE}/restart", "/workspaces"):
            async with http.post(path, data={"project": "web"}) as answer:
                assert answer.status == 403
