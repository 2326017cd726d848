"""The promises of port `forge`, by number, against the GitHub adapter and its memory twin."""

import asyncio
import time as system_time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.memory.forge import MemoryForge, MemoryRepository
from core.errors import NotFoundError, OutsideError, RefusedError, UnavailableError
from core.ports.forge import Forge, PullDraft, PullState
from core.project import RepoRef
from tests.fakes.code_host import Time, code_host, commit_file, git, github

WEB = RepoRef(owner="acme", name="web")
TOPIC = "samovar/T-1-fix"


def draft(
    *, title: str = "Fix rounding", body: str = "It rounds.", base: str = "main"
) -> PullDraft:
    return PullDraft(head=TOPIC, base=base, title=title, body=body, draft=True)


@dataclass
class World:
    """A code host under test and the levers that a person at it would have.

    `push` puts one more commit on a branch and returns its id, `end` merges or closes, `lose` makes
    the next `open_pull` act and lose its answer, `fail` makes the next call of any method fail.
    """

    forge: Forge
    time: Time
    push: Callable[[str], Awaitable[str]]
    end: Callable[[int, PullState], Awaitable[None]]
    lose: Callable[[], None]
    fail: Callable[[], None]
    heads: Callable[[], Awaitable[dict[str, str]]]


@asynccontextmanager
async def in_memory() -> AsyncIterator[World]:
    time = Time(at=1_800_000_000)
    forge = MemoryForge(now=time.now)
    kept = forge.repositories[str(WEB)] = MemoryRepository(heads={"main": "0" * 40})
    pushed = iter(range(1, 99))

    async def push(branch: str) -> str:
        forge.push(WEB, branch, f"{next(pushed):040x}")
        return kept.heads[branch]

    async def end(number: int, state: PullState) -> None:
        forge.end(WEB, number, state)

    async def heads() -> dict[str, str]:
        return kept.heads

    lost = UnavailableError("Memory", "the answer was lost")
    yield World(
        forge=forge,
        time=time,
        push=push,
        end=end,
        lose=lambda: forge.lose_next.update(open_pull=lost),
        fail=lambda: forge.fail_next.update(
            dict.fromkeys(
                ("access", "default_branch", "head", "open_pull", "pull", "find_pull"), lost
            )
        ),
        heads=heads,
    )


@asynccontextmanager
async def on_github(folder: Path) -> AsyncIterator[World]:
    # The App's own tokens are signed with the real time, so the world begins at it.
    time = Time(at=system_time.time())
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(code_host(folder / "host", time))
        await host.create_repository(str(WEB), files={"a.txt": "1\n"})
        forge = github(host, time)
        stack.callback(forge.close)
        work = folder / "work"
        access = await forge.access(WEB, scope="write", ttl_s=3600)
        await git("clone", "--quiet", access.url, str(work), cwd=folder, access=access)
        numbers = iter(range(99))

        async def push(branch: str) -> str:
            await git("checkout", "--quiet", "-B", branch, cwd=work)
            sha = await commit_file(work, "b.txt", f"{next(numbers)}\n", message="Work")
            access = await forge.access(WEB, scope="write", ttl_s=60)
            await git("push", "--quiet", "origin", branch, cwd=work, access=access)
            return sha

        async def end(number: int, state: PullState) -> None:
            await (host.merge if state == "merged" else host.close)(str(WEB), number)

        async def heads() -> dict[str, str]:
            refs = await host.refs(str(WEB))
            return {ref.removeprefix("refs/heads/"): sha for ref, sha in refs.items()}

        yield World(
            forge=forge,
            time=time,
            push=push,
            end=end,
            lose=lambda: host.lose_answer("POST", "/pulls$"),
            fail=lambda: host.fail("*", ".*", 502, times=3),
            heads=heads,
        )


@pytest.fixture(params=["memory", "github"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with in_memory() if request.param == "memory" else on_github(tmp_path) as made:
        yield made


async def test_1_access_names_one_repository_and_keeps_the_token_out_of_the_url(
    world: World,
) -> None:
    access = await world.forge.access(WEB, scope="read", ttl_s=600)
    assert access.url.endswith("/acme/web.git")
    assert access.token.reveal() not in access.url
    assert access.token.reveal() not in repr(access)


async def test_1_every_access_is_a_token_of_its_own(world: World) -> None:
    first = await world.forge.access(WEB, scope="read", ttl_s=600)
    again = await world.forge.access(WEB, scope="write", ttl_s=600)
    assert first.token != again.token


@pytest.mark.parametrize(("ttl_s", "most_s"), [(60, 60), (3600, 3600), (86_400, 3600)])
async def test_2_access_expires_within_what_was_asked_and_an_hour(
    world: World, ttl_s: float, most_s: float
) -> None:
    access = await world.forge.access(WEB, scope="read", ttl_s=ttl_s)
    life = access.expires_at - world.time.now()
    assert timedelta(0) < life <= timedelta(seconds=most_s)


async def test_3_branches_are_read_as_they_are_now(world: World) -> None:
    assert await world.forge.default_branch(WEB) == "main"
    assert await world.forge.head(WEB, "main") == (await world.heads())["main"]
    assert await world.forge.head(WEB, TOPIC) is None
    first = await world.push(TOPIC)
    assert await world.forge.head(WEB, TOPIC) == first
    assert await world.forge.head(WEB, "samovar/T-1") is None, "a part of a name is no branch"


async def test_4_opening_twice_makes_one_pull_request(world: World) -> None:
    await world.push(TOPIC)
    first = await world.forge.open_pull(WEB, draft())
    again = await world.forge.open_pull(WEB, draft())
    assert first == again
    assert (first.state, first.draft, first.head, first.base) == ("open", True, TOPIC, "main")
    assert first.url.endswith(f"/acme/web/pull/{first.number}")


async def test_4_opening_from_many_places_at_once_makes_one_pull_request(world: World) -> None:
    await world.push(TOPIC)
    made = await asyncio.gather(*(world.forge.open_pull(WEB, draft()) for _ in range(6)))
    assert {pull.number for pull in made} == {made[0].number}


async def test_4_a_lost_answer_makes_no_second_pull_request(world: World) -> None:
    await world.push(TOPIC)
    world.lose()
    with pytest.raises(UnavailableError):
        await world.forge.open_pull(WEB, draft())
    made = await world.forge.find_pull(WEB, TOPIC)
    assert await world.forge.open_pull(WEB, draft()) == made


async def test_5_an_open_pull_request_is_brought_up_to_date_and_keeps_its_draft_flag(
    world: World,
) -> None:
    await world.push("develop")
    await world.push(TOPIC)
    first = await world.forge.open_pull(WEB, draft())
    wanted = PullDraft(head=TOPIC, base="develop", title="Better", body="", draft=False)
    second = await world.forge.open_pull(WEB, wanted)
    assert (second.number, second.base, second.draft) == (first.number, "develop", True)


@pytest.mark.parametrize("state", ["merged", "closed"])
async def test_6_after_an_end_the_next_pull_request_is_opened(
    world: World, state: PullState
) -> None:
    await world.push(TOPIC)
    first = await world.forge.open_pull(WEB, draft())
    await world.end(first.number, state)
    await world.push(TOPIC)
    second = await world.forge.open_pull(WEB, draft())
    assert second.number > first.number
    assert (await world.forge.pull(WEB, first.number)).state == state


async def test_7_a_pull_request_follows_its_branch_until_its_end(world: World) -> None:
    assert await world.forge.find_pull(WEB, TOPIC) is None
    first = await world.push(TOPIC)
    number = (await world.forge.open_pull(WEB, draft())).number
    assert (await world.forge.pull(WEB, number)).head_sha == first
    second = await world.push(TOPIC)
    assert (await world.forge.pull(WEB, number)).head_sha == second
    await world.end(number, "merged")
    await world.push(TOPIC)
    ended = await world.forge.find_pull(WEB, TOPIC)
    assert ended is not None
    assert (ended.number, ended.state, ended.head_sha) == (number, "merged", second)


async def test_7_an_open_pull_request_is_found_before_a_closed_one(world: World) -> None:
    await world.push(TOPIC)
    first = await world.forge.open_pull(WEB, draft())
    await world.end(first.number, "closed")
    second = await world.forge.open_pull(WEB, draft())
    assert await world.forge.find_pull(WEB, TOPIC) == second


async def test_8_what_is_not_there_is_not_found(world: World) -> None:
    nowhere = RepoRef(owner="acme", name="nowhere")
    with pytest.raises(NotFoundError):
        await world.forge.access(nowhere, scope="read", ttl_s=60)
    with pytest.raises(NotFoundError):
        await world.forge.default_branch(RepoRef(owner="nobody", name="web"))
    with pytest.raises(NotFoundError):
        await world.forge.pull(WEB, 99)


async def test_8_a_refusal_carries_the_reason(world: World) -> None:
    with pytest.raises(RefusedError, match=r"head|branch"):
        await world.forge.open_pull(WEB, draft())
    with pytest.raises(RefusedError, match="No commits between main and main"):
        await world.forge.open_pull(
            WEB, PullDraft(head="main", base="main", title="t", body="", draft=False)
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda forge: forge.access(WEB, scope="read", ttl_s=60),
        lambda forge: forge.default_branch(WEB),
        lambda forge: forge.head(WEB, "main"),
        lambda forge: forge.open_pull(WEB, draft()),
        lambda forge: forge.pull(WEB, 1),
        lambda forge: forge.find_pull(WEB, TOPIC),
    ],
)
async def test_8_only_errors_of_ours_leave(
    world: World, call: Callable[[Forge], Awaitable[object]]
) -> None:
    world.fail()
    with pytest.raises(OutsideError):
        await call(world.forge)
