"""Diffs taken apart, as the real git writes them."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from adapters.web.diff import LINES_MAX, FileDiff, parsed
from adapters.web.highlight import coloured
from adapters.web.visible import visible

LINE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12)
TEXT = st.lists(LINE | st.sampled_from(["+", "-", "@@ -1 +1 @@", "diff --git a/x b/x"]), max_size=9)


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, env={"HOME": "/nowhere"}
    ).stdout.decode("utf-8", "replace")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


def diff(repository: Path, before: dict[str, str | None], after: dict[str, str | None]) -> str:
    def write(files: dict[str, str | None]) -> None:
        for name, text in files.items():
            path = repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(text.encode())
        git(repository, "add", "-A")

    write(before)
    tree = git(repository, "write-tree").strip()
    write(after)
    return git(repository, "diff", "--cached", "--no-color", "--no-renames", tree)


def side(file: FileDiff, *sides: str) -> list[str]:
    return [line.text for line in file.lines if line.side in sides]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(TEXT, TEXT)
def test_both_sides_of_a_change_are_those_of_git(
    repository: Path, before: list[str], after: list[str]
) -> None:
    old, new = "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)
    files, is_cut = parsed(diff(repository, {"a b.txt": old}, {"a b.txt": new}))
    assert not is_cut
    if old == new:
        assert files == []
        return
    (file,) = files
    assert file.path == "a b.txt"
    assert (file.added, file.removed) == (len(side(file, "add")), len(side(file, "del")))
    numbers = {line.new: line.text for line in file.lines if line.new is not None}
    assert all(after[number - 1] == text for number, text in numbers.items())
    numbers = {line.old: line.text for line in file.lines if line.old is not None}
    assert all(before[number - 1] == text for number, text in numbers.items())


@pytest.mark.parametrize(
    "name", ["plain.py", "with space.txt", "über.txt", 'quo"te\\.txt', "t\tab"]
)
def test_names_are_read_as_git_writes_them(repository: Path, name: str) -> None:
    (made,), _ = parsed(diff(repository, {name: None}, {name: "new\n"}))
    (gone,), _ = parsed(diff(repository, {name: "new\n"}, {name: None}))
    (empty,), _ = parsed(diff(repository, {name: None}, {name: ""}))
    named = name.encode().decode("latin-1") if not name.isascii() else name
    assert {made.path, gone.path, empty.path} <= {name, named}


def test_what_is_said_of_a_file_without_lines_is_kept(repository: Path) -> None:
    (file,), _ = parsed(diff(repository, {"x.bin": "a\0b"}, {"x.bin": "a\0c"}))
    assert side(file, "note") == ["Binary files a/x.bin and b/x.bin differ"]


def test_a_missing_last_line_break_is_a_remark(repository: Path) -> None:
    (file,), _ = parsed(diff(repository, {"a": "one\n"}, {"a": "one"}))
    assert side(file, "note") == ["No newline at end of file"]


def test_a_diff_of_many_lines_is_cut_and_says_so(repository: Path) -> None:
    lines = "".join(f"{number}\n" for number in range(LINES_MAX * 2))
    (file,), is_cut = parsed(diff(repository, {"a": ""}, {"a": lines}))
    assert is_cut
    assert len(file.lines) < LINES_MAX


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    parsed(text)
    parsed("diff --git a/x b/x\n" + text)


@given(
    st.sampled_from(["a.py", "a.js", "a.html", "a.json", "Makefile", "a.yaml", "a.unknown", ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
)
def test_colouring_changes_no_character(name: str, text: str) -> None:
    lines = coloured(name, text)
    shown = [Markup(line).striptags() for line in lines]
    assert len(lines) == visible(text).count("\n") + 1
    assert [" ".join(line.split()) for line in visible(text).split("\n")] == shown


def test_source_is_coloured_and_its_markup_is_only_text() -> None:
    (line,) = coloured("a.py", "x = '<script>' # é")
    assert "<span" in line
    assert "<script" not in line
