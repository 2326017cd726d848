"""Names are looked up in open folders, and no lookup follows a link."""

import os
from pathlib import Path

import pytest

from agent.keep import folders, index
from agent.keep.folders import FOLDER, opened, parent_of, walk
from tests.fakes.kept import git


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "top"
    folder.mkdir()
    return folder


def test_a_folder_that_becomes_a_link_while_one_walks_is_not_entered(
    top: Path, outside: Path
) -> None:
    (top / "folder").mkdir()
    seen = []
    with opened(top, FOLDER) as folder:
        found = walk(folder)
        seen.append(next(found).path)
        (top / "folder").rmdir()
        (top / "folder").symlink_to(outside)
        with pytest.raises(OSError, match="Not a directory"):
            seen.append(next(found).path)
    assert seen == ["folder"]


def test_a_file_that_becomes_another_while_one_walks_is_not_opened(
    top: Path, outside: Path
) -> None:
    (top / "link").touch()
    (top / "other").touch()
    with opened(top, FOLDER) as folder:
        for found in walk(folder):
            (top / found.name).rename(top / f"{found.name}.old")
            if found.name == "link":
                (top / "link").symlink_to(outside / "secret")
            else:
                os.link(outside / "secret", top / "other")
            with pytest.raises(OSError):  # noqa: PT011  ELOOP or ESTALE
                found.open()
            if found.name == "other":
                break


def test_no_part_of_a_path_may_be_a_link(top: Path, outside: Path) -> None:
    (top / "a").mkdir()
    (top / "a/b").symlink_to(outside)
    with opened(top, FOLDER) as folder:
        with pytest.raises(OSError, match="Not a directory"), parent_of(folder, "a/b/secret"):
            pass
        assert folders.read(folder, "a/b/secret", bytes_max=100) == b""
        (top / "link").symlink_to(outside / "secret")
        assert folders.read(folder, "link", bytes_max=100) == b""
        os.mkfifo(top / "pipe")
        assert folders.read(folder, "pipe", bytes_max=100) == b"", "or it waits for ever"


def test_clearing_removes_links_and_not_what_they_lead_to(top: Path, outside: Path) -> None:
    (top / "folder/closed").mkdir(parents=True)
    (top / "folder/out").symlink_to(outside)
    (top / "folder/closed").chmod(0)
    with opened(top, FOLDER) as folder:
        folders.clear(folder, "folder")
        folders.clear(folder, "folder")
    assert not (top / "folder").exists()
    assert (outside / "secret").exists()


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_every_version_of_an_index_is_read(top: Path, version: str) -> None:
    git(top, "init", "--quiet")
    for name in ("a", "folder/b", "folder/bb", "folder/" + "c" * 250, "ü"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(name)
    git(top, "update-index", "--index-version", version)
    git(top, "add", "--all")
    if version == "3":
        (top / "later").touch()
        git(top, "add", "--intent-to-add", "later")
    listed = git(top, "ls-files", "-z", "--stage").split("\0")
    wanted = {line.partition("\t")[2]: line.split(" ")[1] for line in listed if line}
    assert index.read((top / ".git/index").read_bytes()) == wanted


def test_an_index_of_strangers_names_nothing_and_ends() -> None:
    for data in (
        b"",
        b"DIRC",
        b"DIRC" + b"\xff" * 8,
        b"DIRC\0\0\0\4\xff\xff\xff\xff" + b"\xff" * 999,
    ):
        assert isinstance(index.read(data), dict)
