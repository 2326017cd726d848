from collections.abc import Callable
from pathlib import Path

import pytest

from bot.setup import MissingError, Outfit, ensure, examine
from bot.setup.checkout import _pytest_words
from bot.setup.outfit import REQUIREMENTS, RUN, TEST
from bot.state import state_dir

Program = Callable[[str, str], Path]


def quiet(_line: str) -> None:
    """Say nothing."""


def test_what_was_asked_for_is_handed_over(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SAMOVAR_NODE", "SAMOVAR_CLAUDE_MUSL", "SAMOVAR_XTERM", "SAMOVAR_PLAYER"):
        monkeypatch.delenv(name, raising=False)
    node = program("node", "echo v20.1.0")
    outfit = ensure(["node"], state=tmp_path, install=False, progress=quiet)
    assert outfit == Outfit(parts={"node": str(node)})
    assert outfit.node == node
    with pytest.raises(KeyError):
        _ = outfit.claude


def test_what_images_with_musl_need_comes_along_where_it_is_there(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("git", "echo git version 2.39.5")
    monkeypatch.delenv("SAMOVAR_CLAUDE_MUSL", raising=False)
    assert ensure(["git"], state=tmp_path, install=False, progress=quiet).claude_musl is None
    named = program("claude-musl", "")
    monkeypatch.setenv("SAMOVAR_CLAUDE_MUSL", str(named))
    assert ensure(["git"], state=tmp_path, install=False, progress=quiet).claude_musl == named


def test_all_that_is_missing_is_named_at_once_with_what_mends_it(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMOVAR_NODE", raising=False)
    with pytest.raises(MissingError) as caught:
        ensure(["node", "git"], state=tmp_path, install=False, progress=quiet)
    said = str(caught.value)
    assert "Node.js 18 or newer is not installed" in said
    assert "sudo apt-get update && sudo apt-get install -y nodejs" in said
    assert "sudo apt-get update && sudo apt-get install -y git" in said


def test_an_examination_says_what_is_there_and_what_is_not(
    program: Program, tmp_path: Path
) -> None:
    program("git", "echo git version 2.39.5")
    git, docker = examine(["git", "docker"], state=tmp_path / "state")
    assert (git.ok, docker.ok, docker.detail) == (
        True,
        False,
        "the docker command is not installed",
    )
    assert docker.mend
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("names", [RUN, TEST])
def test_every_need_is_among_what_is_asked_for_together(names: tuple[str, ...]) -> None:
    assert {need for name in names for need in REQUIREMENTS[name].needs} <= set(names)


def test_the_state_folder_is_named_by_people_or_by_convention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    monkeypatch.delenv("SAMOVAR_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_dir() == Path("/home/ana/.local/state/samovar")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/ana")
    assert state_dir() == Path("/var/ana/samovar")
    monkeypatch.setenv("SAMOVAR_STATE", "/data")
    assert state_dir() == Path("/data")


def test_long_tests_and_many_processes_are_for_those_who_ask_for_all() -> None:
    assert _pytest_words(["--long", "tests/unit"]) == ["tests/unit"]
    assert _pytest_words(["tests/unit"]) == ["-m", "not long", "tests/unit"]
    assert "-n" in _pytest_words(["--long"])
