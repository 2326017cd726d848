"""The GitHub adapter against the stand-in: what the contract cannot see."""

import asyncio
import time as system_time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.github.forge import GitHubForge, build
from bot.demo.forge.server import StandInForge
from core.errors import (
    ConfigError,
    CredentialError,
    NotFoundError,
    RateLimitedError,
    UnavailableError,
)
from core.ports.forge import PullDraft
from core.project import RepoRef
from core.secret import Secret
from tests.fakes.clock import LoopClock
from tests.fakes.code_host import Time, app_key, code_host, commit_file, git, github

WEB = RepoRef(owner="acme", name="web")
DRAFT = PullDraft(head="samovar/T-1-fix", base="main", title="Fix", body="", draft=False)


@pytest.fixture
def time() -> Time:
    return Time(at=system_time.time())


@pytest.fixture
async def host(tmp_path: Path, time: Time) -> AsyncIterator[StandInForge]:
    async with code_host(tmp_path / "host", time) as made:
        await made.create_repository("acme/web", files={"a.txt": "1\n"})
        await made.create_repository("acme/api", files={"a.txt": "1\n"})
        yield made


@pytest.fixture
async def forge(host: StandInForge, time: Time) -> AsyncIterator[GitHubForge]:
    made = github(host, time)
    yield made
    made.close()


async def clone(forge: GitHubForge, folder: Path) -> Path:
    """Clone and commit on the draft's branch."""
    access = await forge.access(WEB, scope="read", ttl_s=3600)
    work = folder / "work"
    await git("clone", "--quiet", access.url, str(work), cwd=folder, access=access)
    await git("checkout", "--quiet", "-b", DRAFT.head, cwd=work)
    await commit_file(work, "b.txt", "2\n", message="Work")
    return work


async def push(forge: GitHubForge, work: Path) -> None:
    access = await forge.access(WEB, scope="write", ttl_s=600)
    await git("push", "--quiet", "origin", "HEAD", cwd=work, access=access)


async def test_the_app_is_known_by_its_key(forge: GitHubForge) -> None:
    assert await forge.check() == "samovar-demo"


async def test_another_key_is_a_fault_of_the_configuration(host: StandInForge, time: Time) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    forge = github(host, time, private_key=Secret(stranger.decode()))
    with pytest.raises(ConfigError, match="id or private key"):
        await forge.check()
    forge.close()


def test_a_key_that_is_none_is_a_fault_of_the_configuration(time: Time) -> None:
    with pytest.raises(ConfigError, match="PEM"):
        build(app_id="1", private_key=Secret("nonsense"), now=time.now)


async def test_c6_a_read_token_does_not_push(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    work = await clone(forge, tmp_path)
    before = await host.refs("acme/web")
    read = await forge.access(WEB, scope="read", ttl_s=600)
    pushed = await git("push", "origin", "HEAD", cwd=work, access=read, check=False)
    assert pushed.status == 128
    assert "403" in pushed.said
    assert await host.refs("acme/web") == before


async def test_c6_a_token_opens_no_other_repository(forge: GitHubForge, tmp_path: Path) -> None:
    access = await forge.access(WEB, scope="write", ttl_s=600)
    url = access.url.replace("acme/web", "acme/api")
    cloned = await git("clone", url, "api", cwd=tmp_path, access=access, check=False)
    assert cloned.status == 128
    assert "not found" in cloned.said.lower()


async def test_c2_git_with_an_old_token_is_refused(
    forge: GitHubForge, tmp_path: Path, time: Time
) -> None:
    access = await forge.access(WEB, scope="write", ttl_s=3600)
    time.at += 3601
    cloned = await git("clone", access.url, "web", cwd=tmp_path, access=access, check=False)
    assert cloned.status == 128
    assert "Authentication failed" in cloned.said


async def test_c2_our_own_token_is_renewed_before_its_end(host: StandInForge, time: Time) -> None:
    # Only the adapter's time moves: PyGithub signs with the computer's.
    ours = Time(at=time.at)
    forge = github(host, ours)
    await forge.default_branch(WEB)
    await forge.default_branch(WEB)
    assert tokens_made(host) == 1
    ours.at += 3600 - 200
    await forge.default_branch(WEB)
    assert tokens_made(host) == 2
    forge.close()


async def test_the_installation_is_looked_up_once(host: StandInForge, forge: GitHubForge) -> None:
    for _ in range(3):
        await forge.access(WEB, scope="read", ttl_s=60)
    looked_up = [path for _, path, _ in host.requests if path.endswith("/installation")]
    assert looked_up == ["/repos/acme/web/installation"]


async def test_a_pull_request_has_the_size_that_git_measures(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    work = await clone(forge, tmp_path)
    await commit_file(work, "a.txt", "one\ntwo\n", message="More")
    await push(forge, work)
    made = await forge.open_pull(WEB, DRAFT)
    assert (made.commits, made.additions, made.deletions, made.changed_files) == (2, 3, 1, 2)
    assert made.url == f"{host.url}/acme/web/pull/1"
    row = (await host.pulls("acme/web"))[0]
    assert (row.title, row.body, row.head_sha) == ("Fix", "", made.head_sha)


async def test_a_text_that_is_too_long_is_cut_the_same_every_time(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    await push(forge, await clone(forge, tmp_path))
    long = PullDraft(head=DRAFT.head, base="main", title="t" * 300, body="ü" * 70_000, draft=False)
    await forge.open_pull(WEB, long)
    row = (await host.pulls("acme/web"))[0]
    assert (len(row.title), len(row.body), row.body[-1]) == (256, 65_536, "…")
    await forge.open_pull(WEB, long)
    assert "PATCH" not in {method for method, _, _ in host.requests}, "nothing differs"


async def test_opening_is_never_repeated_by_the_library(
    host: StandInForge, forge: GitHubForge, tmp_path: Path
) -> None:
    await push(forge, await clone(forge, tmp_path))
    host.fail("POST", "/pulls$", 502)
    with pytest.raises(UnavailableError):
        await forge.open_pull(WEB, DRAFT)
    assert [m for m, path, _ in host.requests if path.endswith("/pulls") and m == "POST"] == [
        "POST"
    ]


async def test_reading_survives_a_hiccup(host: StandInForge, forge: GitHubForge) -> None:
    host.fail("GET", "/repos/acme/web$", 502, times=2)
    assert await forge.default_branch(WEB) == "main"


@pytest.mark.parametrize(
    ("status", "asked_s", "message"),
    [
        (429, 17, "slow down"),
        (403, 17, "You have exceeded a secondary rate limit"),
        (403, None, "You have exceeded a secondary rate limit"),
        (429, None, "slow down"),
    ],
)
async def test_a_rate_limit_is_handed_to_the_caller_at_once(
    host: StandInForge, forge: GitHubForge, status: int, asked_s: int | None, message: str
) -> None:
    await forge.default_branch(WEB)
    headers = {"Retry-After": str(asked_s)} if asked_s else {}
    host.fail("GET", "/repos/acme/web$", status, headers=headers, body={"message": message})
    began = system_time.monotonic()
    with pytest.raises(RateLimitedError, match=message) as caught:
        await forge.default_branch(WEB)
    assert caught.value.retry_after_s == (asked_s or 60)
    assert system_time.monotonic() - began < 15, "no thread sleeps until the limit ends"


async def test_a_spent_hour_is_waited_for_until_its_reset(
    host: StandInForge, forge: GitHubForge
) -> None:
    reset = int(system_time.time()) + 900
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    host.fail("GET", "/repos/acme/web$", 403, headers=headers, body={"message": "API rate limit"})
    with pytest.raises(RateLimitedError) as caught:
        await forge.default_branch(WEB)
    assert caught.value.retry_after_s == pytest.approx(900, abs=60)


async def test_a_missing_permission_is_a_fault_of_our_credential(
    host: StandInForge, forge: GitHubForge
) -> None:
    sentence = "Resource not accessible by integration"
    host.fail("GET", "/repos/acme/web$", 403, body={"message": sentence})
    with pytest.raises(CredentialError, match=sentence):
        await forge.default_branch(WEB)


async def test_a_code_host_that_is_down_is_unavailable(time: Time) -> None:
    forge = build(
        app_id="1", private_key=app_key()[0], api_url="http://127.0.0.1:9/api/v3", now=time.now
    )
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await forge.default_branch(WEB)
    forge.close()


async def test_an_answer_of_another_shape_is_refused_not_crashed_on(
    host: StandInForge, forge: GitHubForge
) -> None:
    await forge.default_branch(WEB)
    host.fail("GET", "/repos/acme/web$", 200, body=["not", "a", "repository"])
    with pytest.raises(UnavailableError, match="makes no sense"):
        await forge.default_branch(WEB)


async def test_a_slow_code_host_holds_up_nobody_else(
    host: StandInForge, forge: GitHubForge
) -> None:
    clock = LoopClock()
    await forge.default_branch(WEB)
    host.slow("GET", "/repos/acme/web$", 10)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(forge.default_branch(WEB))
        while not any(path == "/repos/acme/web/git/ref/heads/main" for _, path, _ in host.requests):
            await forge.head(WEB, "main")
        assert not slow.done()
        clock.advance(10)
    assert slow.result() == "main"


async def test_an_app_that_was_installed_anew_is_found_again(
    host: StandInForge, forge: GitHubForge
) -> None:
    await forge.access(WEB, scope="read", ttl_s=60)
    host.fail("POST", "/access_tokens$", 404)
    await forge.access(WEB, scope="read", ttl_s=60)
    host.fail("POST", "/access_tokens$", 404, times=2)
    with pytest.raises(NotFoundError):
        await forge.access(WEB, scope="read", ttl_s=60)


async def test_a_token_is_asked_for_no_longer_than_an_hour(forge: GitHubForge, time: Time) -> None:
    access = await forge.access(WEB, scope="read", ttl_s=1e9)
    assert access.expires_at - time.now() <= timedelta(hours=1)


def tokens_made(host: StandInForge) -> int:
    return sum(path.endswith("/access_tokens") for _, path, _ in host.requests)
