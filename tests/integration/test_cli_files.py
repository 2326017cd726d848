"""`samovar workspace put`, `get`, `share`, `open-to` and what `show` says, as processes."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.ids import WorkspaceId
from tests.fakes.commands import FakeCommands, a_person
from tests.fakes.previews import FakePreviews
from tests.fakes.story import tell
from tests.fakes.web import a_socket
from tests.integration.test_cli import Shell

SPACE = WorkspaceId("k3v9x201")


@pytest.fixture
def previews() -> FakePreviews:
    return FakePreviews()


@pytest.fixture
async def shell(tmp_path: Path, previews: FakePreviews) -> AsyncIterator[Shell]:
    commands, person = FakeCommands(), a_person()
    await tell(commands, person)
    async with a_socket(tmp_path, commands, person, previews):
        yield Shell(tmp_path, commands)


async def test_put_writes_a_file_and_get_reads_it(shell: Shell, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    source = tmp_path / "a b%.bin"
    source.write_bytes(data)
    ran = await shell("workspace", "put", SPACE, str(source), "docs/")
    assert (ran.code, ran.err) == (0, "docs/a b%.bin is there.\n")
    assert shell.commands.files == {"docs/a%20b%25.bin": data}
    target = tmp_path / "copy"
    ran = await shell("workspace", "get", SPACE, "docs/a b%.bin", str(target))
    assert ran.code == 0, ran.err
    assert target.read_bytes() == data
    ran = await shell("workspace", "get", SPACE, "docs/a b%.bin", str(target))
    assert (ran.code, "is here already" in ran.err) == (1, True)
    shell.commands.files["docs/a%20b%25.bin"] = b"new"
    ran = await shell(
        "workspace", "get", SPACE, "docs/a b%.bin", str(target), "--replace", "--json"
    )
    assert ran.json == {"workspace_id": SPACE, "path": str(target)}
    assert target.read_bytes() == b"new"


async def test_get_touches_no_file_but_its_own(shell: Shell, tmp_path: Path) -> None:
    shell.commands.files["a"] = b"new"
    folder = tmp_path / "here"
    folder.mkdir()
    theirs = folder / "a.part"
    theirs.write_bytes(b"theirs")
    ran = await shell("workspace", "get", SPACE, "a", str(folder / "a"))
    assert ran.code == 0, ran.err
    (folder / "c").mkdir()
    ran = await shell("workspace", "get", SPACE, "a", str(folder / "c"), "--replace")
    assert (ran.code, "cannot be written" in ran.err) == (1, True)
    assert theirs.read_bytes() == b"theirs"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "a.part", "c"]


async def test_put_asks_before_it_replaces(shell: Shell, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"new")
    shell.commands.files["a"] = b"old"
    ran = await shell("workspace", "put", SPACE, str(source))
    assert (ran.code, ran.err) == (1, "samovar: a is there already.\n")
    ran = await shell("workspace", "put", SPACE, str(source), "--replace")
    assert (ran.code, shell.commands.files["a"]) == (0, b"new")


async def test_stdin_and_stdout_are_files_too(shell: Shell) -> None:
    ran = await shell("workspace", "put", SPACE, "-", text="words")
    assert ran.code == 2
    ran = await shell("workspace", "put", SPACE, "-", "notes", text="words")
    assert (ran.code, shell.commands.files["notes"]) == (0, b"words")
    ran = await shell("workspace", "get", SPACE, "notes", "-")
    assert (ran.code, ran.out) == (0, "words")


async def test_what_is_not_there_is_said(shell: Shell, tmp_path: Path) -> None:
    ran = await shell("workspace", "put", SPACE, str(tmp_path / "nothing"))
    assert (ran.code, "cannot be read: No such file" in ran.err) == (1, True)
    ran = await shell("workspace", "get", SPACE, "nothing", str(tmp_path / "x"))
    assert ran.code == 1
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob("*.part"))


async def test_c10_names_of_any_bytes_are_sent_as_they_are(shell: Shell, tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n"))
    source.write_bytes(b"x")
    ran = await shell("workspace", "put", SPACE, str(source), "--json")
    assert ran.code == 0, ran.err
    assert shell.commands.files == {"%FF%0A": b"x"}


async def test_ports_are_shown_opened_and_shared(shell: Shell, previews: FakePreviews) -> None:
    previews.apps[SPACE, 5173] = 1
    previews.names[SPACE, 5173] = "Shop"
    ran = await shell("workspace", "show", SPACE)
    assert "5173 Shop, open to the owner: no address" in ran.out
    ran = await shell("workspace", "open-to", SPACE, "5173", "project")
    assert (ran.code, previews.audiences[SPACE, 5173]) == (0, "project")
    ran = await shell("workspace", "share", SPACE, "5173", "--hours", "2")
    assert (ran.code, ran.out) == (0, "/preview?link=link-1\n")
    ran = await shell("workspace", "open-to", SPACE, "5173", "world")
    assert ran.code == 2
