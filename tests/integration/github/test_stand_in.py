"""The stand-in code host itself: does it keep itself honest, and is it safe to look at?"""

import asyncio
import os
import time as system_time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from adapters.github.forge import GitHubForge
from bot.demo.forge.bodies import Bodies
from bot.demo.forge.schema import github as github_schema
from bot.demo.forge.server import StandInForge
from core.ports.forge import GitAccess, PullDraft
from core.project import RepoRef
from tests.fakes.code_host import APP_ID, Time, app_key, code_host, commit_file, git, github

WEB = RepoRef(owner="acme", name="web")
TOPIC = "samovar/T-1-fix"
NOTICE = Path("bot/demo/forge/github-openapi.NOTICE.md")


@pytest.fixture
def time() -> Time:
    return Time(at=system_time.time())


@pytest.fixture
async def host(tmp_path: Path, time: Time) -> AsyncIterator[StandInForge]:
    async with code_host(tmp_path / "host", time, allow_violations=True) as made:
        await made.create_repository("acme/web", files={"a.txt": "1\n", "dir/b.txt": "2\n"})
        yield made


@pytest.fixture
async def forge(host: StandInForge, time: Time) -> AsyncIterator[GitHubForge]:
    made = github(host, time)
    yield made
    made.close()


async def open_pull(forge: GitHubForge, folder: Path, *, body: str = "") -> None:
    access = await forge.access(WEB, scope="write", ttl_s=3600)
    work = folder / "work"
    await git("clone", "--quiet", access.url, str(work), cwd=folder, access=access)
    await git("checkout", "--quiet", "-b", TOPIC, cwd=work)
    await commit_file(work, "a.txt", "<b>one</b>\n", message="Make it <b>bold</b>")
    await git("push", "--quiet", "origin", "HEAD", cwd=work, access=access)
    draft = PullDraft(head=TOPIC, base="main", title="<i>Fix</i>", body=body, draft=True)
    await forge.open_pull(WEB, draft)


async def token_for(host: StandInForge, permissions: dict[str, str]) -> str:
    """Return a token as the App itself asks for it."""
    app = {"Authorization": f"Bearer {app_jwt()}"}
    async with aiohttp.ClientSession(headers=app) as http:
        async with http.get(f"{host.api_url}/repos/acme/web/installation") as answer:
            number = (await answer.json())["id"]
        url = f"{host.api_url}/app/installations/{number}/access_tokens"
        async with http.post(url, json={"permissions": permissions}) as answer:
            assert answer.status == 201
            return str((await answer.json())["token"])


def app_jwt(*, age_s: float = 0) -> str:
    began = int(system_time.time() - age_s)
    claims = {"iat": began, "exp": began + 540, "iss": APP_ID}
    return jwt.encode(claims, app_key()[0].reveal(), algorithm="RS256")


async def asked(
    host: StandInForge, method: str, path: str, token: str, **more: Any
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{host.api_url}{path}"
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, url, **more) as a,
    ):
        return a.status, await a.json()


async def test_a_corrupted_field_is_objected_to(
    host: StandInForge, forge: GitHubForge, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Bodies.repository

    def corrupted(self: Bodies, name: str, branch: str) -> dict[str, Any]:
        return honest(self, name, branch) | {"private": "perhaps"}

    monkeypatch.setattr(Bodies, "repository", corrupted)
    await forge.default_branch(WEB)
    faults = [violation.fault for violation in host.violations]
    assert "answer 200: private: 'perhaps' is not of type 'boolean'" in faults


async def test_a_request_that_github_does_not_describe_is_objected_to(host: StandInForge) -> None:
    token = await token_for(host, {"pull_requests": "write"})
    status, _ = await asked(
        host, "POST", "/repos/acme/web/pulls", token, json={"head": TOPIC, "base": 7}
    )
    assert status == 422
    await asked(host, "GET", "/repos/acme/web/pulls?stat=open", token)
    await asked(host, "GET", "/repos/acme/web/pulls?per_page=many", token)
    assert [violation.fault for violation in host.violations] == [
        "request: base: 7 is not of type 'string'",
        "request: query stat: is not described",
        "request: query per_page: .: 'many' is not of type 'integer'",
    ]


async def test_an_operation_that_is_not_served_is_501_and_objected_to(host: StandInForge) -> None:
    status, _ = await asked(host, "PUT", "/repos/acme/web/pulls/1/merge", "any")
    assert status == 501
    assert [v.where for v in host.violations] == ["PUT /repos/acme/web/pulls/1/merge"]


async def test_every_answer_that_is_read_fits_the_description(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    await open_pull(forge, tmp_path, body="See `a`.")
    sha = (await host.refs("acme/web"))[f"refs/heads/{TOPIC}"]
    token = await token_for(host, {"contents": "read", "pull_requests": "write", "checks": "write"})
    repo = "/repos/acme/web"
    check = {"name": "pytest", "head_sha": sha, "status": "completed", "conclusion": "success"}
    expected = {
        ("GET", repo): 200,
        ("GET", f"{repo}/branches/{TOPIC}"): 200,
        ("GET", f"{repo}/branches/nope"): 404,
        ("GET", f"{repo}/git/ref/heads/{TOPIC}"): 200,
        ("GET", f"{repo}/commits?sha={TOPIC}&per_page=1"): 200,
        ("GET", f"{repo}/commits/{sha}"): 200,
        ("GET", f"{repo}/pulls?state=all&head=acme:{TOPIC}&base=main"): 200,
        ("GET", f"{repo}/pulls/1"): 200,
        ("GET", f"{repo}/pulls/2"): 404,
        ("GET", f"{repo}/pulls/1/files"): 200,
        ("GET", f"{repo}/pulls/1/commits"): 200,
        ("PATCH", f"{repo}/pulls/1"): 200,
        ("POST", f"{repo}/issues/1/comments"): 201,
        ("GET", f"{repo}/issues/1/comments"): 200,
        ("POST", f"{repo}/check-runs"): 201,
        ("GET", f"{repo}/commits/{TOPIC}/check-runs"): 200,
    }
    bodies = {"PATCH": {"title": "Better"}, "POST": {"body": "Thanks"}}
    seen = {}
    for method, path in expected:
        body = check if path.endswith("/check-runs") and method == "POST" else bodies.get(method)
        seen[method, path], _ = await asked(host, method, path, token, json=body)
    assert seen == expected
    assert host.violations == []
    assert [row.name for row in host.checks("acme/web", sha)] == ["pytest"]
    assert [row.body for row in host.comments("acme/web", 1)] == ["Thanks"]


async def test_a_long_list_comes_in_pages(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    await open_pull(forge, tmp_path)
    token = await token_for(host, {"contents": "read"})
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{host.api_url}/repos/acme/web/commits?sha={TOPIC}&per_page=1"
    subjects = []
    async with aiohttp.ClientSession(headers=headers) as http:
        while url:
            async with http.get(url) as answer:
                subjects += [row["commit"]["message"] for row in await answer.json()]
                url = str(answer.links["next"]["url"]) if "next" in answer.links else ""
    assert subjects == ["Make it <b>bold</b>", "First commit"]


async def test_c6_a_token_does_only_what_it_was_made_for(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    await open_pull(forge, tmp_path)
    token = await token_for(host, {"contents": "read"})
    draft = {"head": TOPIC, "base": "main", "title": "x"}
    assert (await asked(host, "POST", "/repos/acme/web/pulls", token, json=draft))[0] == 403
    assert (await asked(host, "GET", "/repos/acme/web/pulls/1", token))[0] == 403
    assert (await asked(host, "GET", "/repos/acme/web", "ghs_guessed"))[0] == 401
    assert host.violations == []


async def test_c2_an_old_or_forged_app_token_is_refused(host: StandInForge) -> None:
    forged = jwt.encode({"iat": 0, "exp": 2**40, "iss": APP_ID}, "k" * 32, algorithm="HS256")
    for token in (app_jwt(age_s=3600), forged, ""):
        assert (await asked(host, "GET", "/app", token))[0] == 401
    assert (await asked(host, "GET", "/app", app_jwt()))[0] == 200


async def test_a_request_that_is_no_json_is_refused(host: StandInForge) -> None:
    token = await token_for(host, {"pull_requests": "write"})
    status, body = await asked(host, "POST", "/repos/acme/web/pulls", token, data=b"{")
    assert (status, body["message"]) == (400, "Problems parsing JSON")


async def test_git_that_ended_by_itself_is_left_to_be_waited_for(
    host: StandInForge, forge: GitHubForge, caplog: pytest.LogCaptureFixture
) -> None:
    """A signal to a child that just ended takes its status away from whoever waits for it."""
    access = await forge.access(WEB, scope="read", ttl_s=3600)
    login = aiohttp.encode_basic_auth(access.username, access.token.reveal())
    async with aiohttp.ClientSession(headers={"Authorization": login}) as http:
        for _ in range(20):
            url = f"{access.url}/info/refs?service=git-upload-pack"
            async with http.get(url) as answer:
                assert (await answer.read()).endswith(b"0000")
    assert [line.message for line in caplog.records if line.name == "asyncio"] == []


async def test_git_without_a_token_is_asked_for_one(host: StandInForge, tmp_path: Path) -> None:
    cloned = await git("clone", f"{host.url}/acme/web.git", cwd=tmp_path, check=False)
    assert cloned.status == 128
    assert "could not read Username" in cloned.said


async def test_two_pushes_and_a_clone_at_once(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    access = await forge.access(WEB, scope="write", ttl_s=3600)

    async def person(number: int) -> None:
        work = tmp_path / f"work-{number}"
        await git("clone", "--quiet", access.url, str(work), cwd=tmp_path, access=access)
        (work / "data").write_bytes(os.urandom(2 << 20))
        await git("add", "data", cwd=work)
        await git("commit", "--quiet", "-m", f"Work {number}", cwd=work)
        await git("push", "--quiet", "origin", f"HEAD:p{number}", cwd=work, access=access)

    await asyncio.gather(*(person(number) for number in range(3)))
    assert {f"refs/heads/p{n}" for n in range(3)} < set(await host.refs("acme/web"))


async def test_a_push_that_breaks_off_changes_nothing(
    host: StandInForge, forge: GitHubForge
) -> None:
    access: GitAccess = await forge.access(WEB, scope="write", ttl_s=3600)
    before = await host.refs("acme/web")
    command = f"{'0' * 40} {before['refs/heads/main']} refs/heads/x\0report-status".encode()

    async def half() -> AsyncIterator[bytes]:
        yield b"%04x" % (len(command) + 4) + command + b"0000PACK\0\0\0\2\0\0\0\1"
        raise ConnectionAbortedError

    headers = {
        "Authorization": aiohttp.encode_basic_auth(access.username, access.token.reveal()),
        "Content-Type": "application/x-git-receive-pack-request",
    }
    async with aiohttp.ClientSession(headers=headers) as http:
        with pytest.raises(aiohttp.ClientError):
            async with http.post(f"{access.url}/git-receive-pack", data=half()) as answer:
                await answer.read()
    assert await host.refs("acme/web") == before


async def test_what_was_opened_is_there_after_a_restart(
    host: StandInForge, forge: GitHubForge, tmp_path: Path, time: Time
) -> None:
    await open_pull(forge, tmp_path)
    async with code_host(tmp_path / "host", time) as again:
        assert [row.title for row in await again.pulls("acme/web")] == ["<i>Fix</i>"]
        sha = await again.create_repository("acme/web", files={"other": ""})
        assert sha == (await again.refs("acme/web"))["refs/heads/main"], "it is left as it is"


async def test_a_folder_becomes_a_repository_with_all_its_files(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tree / "built").mkdir()
    (tree / ".gitignore").write_text("built\n")
    (tree / "built" / "x.py").write_text("")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    await host.create_repository("acme/tree", from_tree=tree, branch="trunk")
    repo = RepoRef(owner="acme", name="tree")
    assert await forge.default_branch(repo) == "trunk"
    access = await forge.access(repo, scope="read", ttl_s=60)
    await git("clone", "--quiet", access.url, "copy", cwd=tmp_path, access=access)
    listed = await git("ls-files", cwd=tmp_path / "copy")
    assert listed.said.split() == [".gitignore", "built/x.py", "run.sh"]
    assert os.access(tmp_path / "copy" / "run.sh", os.X_OK)


async def test_c10_pages_show_text_from_outside_as_text(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    body = "<script>x</script> [y](javascript:z) **bold**\n\n<!-- samovar:T-1 -->\n"
    await open_pull(forge, tmp_path, body=body)
    sha = (await host.refs("acme/web"))["refs/heads/main"]
    await host.git("acme/web", "update-ref", 'refs/heads/a#b%41"><i>Fix', sha)
    pages = {}
    async with aiohttp.ClientSession() as http:
        for path in ("", "/acme/web", "/acme/web/pull/1", f"/acme/web/tree/{TOPIC}"):
            async with http.get(host.url + path) as answer:
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                pages[path] = await answer.text()
        for path in ("/acme/nope", "/acme/web/pull/9", "/acme/web/tree/nope", "/../x/y"):
            async with http.get(host.url + path) as answer:
                assert answer.status == 404
                assert "Stand-in code host of this demonstration." in await answer.text()
    for text in pages.values():
        assert "Stand-in code host of this demonstration." in text
        assert not {"<script", "<b>one", "<i>Fix", 'href="javascript'} & {
            part for part in ("<script", "<b>one", "<i>Fix", 'href="javascript') if part in text
        }
    pull = pages["/acme/web/pull/1"]
    assert "<strong>bold</strong>" in pull
    assert "samovar:T-1" not in pull
    assert "&lt;b&gt;one&lt;/b&gt;" in pull


async def test_every_url_begins_with_the_public_one(tmp_path: Path, time: Time) -> None:
    public = StandInForge(
        tmp_path / "public",
        app_id=APP_ID,
        app_public_key=app_key()[1],
        public_url="http://code.example.org:8080",
        now=time.seconds,
    )
    async with public:
        assert public.api_url == "http://code.example.org:8080/api/v3"
        url = f"http://127.0.0.1:{public.port}/api/v3/app"
        headers = {"Authorization": f"Bearer {app_jwt()}"}
        async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
            body = await answer.json()
    assert body["html_url"].startswith("http://code.example.org:8080/")
    assert "github.com" not in str(body)


async def test_a_commit_page_shows_the_first_commit_too(
    host: StandInForge, forge: GitHubForge
) -> None:
    sha = (await host.refs("acme/web"))["refs/heads/main"]
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{host.url}/acme/web/commit/{sha}") as answer:
            assert "dir/b.txt" in await answer.text()
        async with http.get(f"{host.url}/acme/web/commit/{'0' * 40}") as answer:
            assert answer.status == 404


def test_the_notice_names_the_source_of_the_description() -> None:
    source = github_schema().source
    notice = NOTICE.read_text()
    assert f"`{source['package']}` {source['version']}" in notice
    assert source["sha256"] in notice
