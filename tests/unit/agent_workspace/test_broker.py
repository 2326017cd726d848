"""The credential sockets, asked by git itself."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.broker import HELPER, SOCKET, Answers, Broker, answer
from agent.errors import NodeError
from core.ids import WorkspaceId

URL = "https://forge.example/acme/web.git"
GATE = "http://172.17.0.1:4000/git/acme/web.git"
WEB = WorkspaceId("aaaaaaaa")


async def read_login() -> tuple[str, str]:
    return "x-access-token", "read-token"


async def refused() -> tuple[str, str]:
    raise NodeError("credential_refused", "no")


def answers(login: object = read_login) -> Answers:
    return Answers(url=URL, push_url=GATE, token="wst_own", login=login)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("question", "password"),
    [
        ({"protocol": "https", "host": "forge.example", "path": "acme/web.git"}, "read-token"),
        ({"protocol": "https", "host": "forge.example", "path": "acme/web"}, "read-token"),
        ({"protocol": "https", "host": "forge.example"}, "read-token"),
        ({"protocol": "https", "host": "FORGE.example"}, "read-token"),
        ({"protocol": "https", "host": "forge.example", "path": "acme/other.git"}, None),
        ({"protocol": "http", "host": "forge.example", "path": "acme/web.git"}, None),
        ({"protocol": "https", "host": "forge.example:8443"}, None),
        ({"protocol": "https", "host": "forge.example.evil"}, None),
        ({"protocol": "https", "host": "evil@forge.example:1"}, None),
        ({"protocol": "http", "host": "172.17.0.1:4000", "path": "git/acme/web.git"}, "wst_own"),
        ({"protocol": "http", "host": "172.17.0.1:4000", "path": "git/acme/other.git"}, None),
        ({"protocol": "http", "host": "172.17.0.1:4001"}, None),
        ({}, None),
    ],
)
async def test_c6_only_the_own_repository_is_answered_for(
    question: dict[str, str], password: str | None
) -> None:
    found = await answer({"action": "get"} | question, answers())
    assert (found and found[1]) == password
    assert await answer({"action": "store"} | question, answers()) is None


@given(st.dictionaries(st.sampled_from(["protocol", "host", "path"]), st.text(max_size=20)))
async def test_no_question_breaks_the_answer(question: dict[str, str]) -> None:
    await answer({"action": "get"} | question, answers())


async def ask(run_dir: Path, question: str) -> str:
    """Ask as git's own client does, through the helper's words."""
    line = HELPER.splitlines()[-1].replace("/run/samovar", str(run_dir)).removeprefix("exec ")
    process = await asyncio.create_subprocess_exec(
        *line.split(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(question.encode())
    return out.decode()


async def test_gits_own_client_gets_the_answer_by_the_socket_it_came_through(
    tmp_path: Path,
) -> None:
    broker = Broker()
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    await broker.open(WEB, one, answers(), uid=os.geteuid())
    await broker.open(WorkspaceId("bbbbbbbb"), two, answers(refused), uid=os.geteuid())
    question = "protocol=https\nhost=forge.example\n\n"
    assert "password=read-token\n" in await ask(one, question)
    assert await ask(two, question) == "quit=1\n"
    assert await ask(one, "protocol=https\nhost=evil.example\n\n") == ""
    await broker.open(WEB, one, answers(refused), uid=os.geteuid())
    assert await ask(one, question) == "quit=1\n"
    broker.close_all()
    assert await ask(one, question) == ""


async def test_a_socket_is_replaced_without_a_moment_in_which_nobody_answers(
    tmp_path: Path,
) -> None:
    broker = Broker()
    await broker.open(WEB, tmp_path, answers(), uid=os.geteuid())
    heard: list[str] = []

    async def ask_often() -> None:
        question = "protocol=https\nhost=forge.example\n\n"
        heard.extend([await ask(tmp_path, question) for _ in range(20)])

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask_often())
        while not asking.done():
            await broker.open(WEB, tmp_path, answers(), uid=os.geteuid())
            await asyncio.sleep(0)
    assert all("password=read-token" in text for text in heard)
    (tmp_path / SOCKET).unlink()
    await broker.open(WEB, tmp_path, answers(), uid=os.geteuid())
    assert (tmp_path / SOCKET).is_socket()
    broker.close_all()


async def test_a_link_in_the_place_of_the_socket_is_replaced_and_not_followed(
    tmp_path: Path,
) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    run_dir = tmp_path / ("long-" * 30)
    run_dir.mkdir()
    (run_dir / SOCKET).symlink_to(target)
    broker = Broker()
    await broker.open(WEB, run_dir, answers(), uid=os.geteuid())
    assert (run_dir / SOCKET).is_socket()
    assert target.read_text() == "kept"
    broker.close_all()
