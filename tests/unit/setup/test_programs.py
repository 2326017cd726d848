from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.setup.missing import MissingError
from bot.setup.node import Node
from bot.setup.program import Chromium, Git, Postgres, Screens
from bot.setup.requirement import Site
from bot.setup.tools import CLAUDE_VERSION, Claude, Devcontainer

Program = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("said", "is_enough"), [("v18.20.4", True), ("v16.9.1", False), ("?", False)]
)
def test_node_counts_from_version_18(
    site: Site, program: Program, said: str, is_enough: bool
) -> None:
    path = program("node", f"echo {said}")
    if is_enough:
        assert Node().probe(site) == str(path)
    else:
        with pytest.raises(MissingError, match=r"Node\.js 18 or newer"):
            Node().probe(site)


def test_a_named_node_is_tried_and_no_other(site: Site, program: Program) -> None:
    program("node", "echo v22.1.0")
    old = program("old-node", "echo v12.0.0")
    with pytest.raises(MissingError):
        Node().probe(replace(site, environ={"SAMOVAR_NODE": str(old)}))


def test_the_newest_postgres_that_runs_is_taken(
    site: Site, program: Program, tmp_path: Path
) -> None:
    for major in (9, 14, 15, 17):
        folder = tmp_path / "pg" / str(major) / "bin"
        folder.mkdir(parents=True)
        program(f"initdb{major}", f"echo 'initdb (PostgreSQL) {major}.3'").rename(folder / "initdb")
    (tmp_path / "pg/17/bin/initdb").write_text("#!/bin/sh\nexit 1\n")
    assert Postgres(installed=tmp_path / "pg").probe(site) == str(tmp_path / "pg/15/bin")
    with pytest.raises(MissingError, match="PostgreSQL 15 or newer"):
        Postgres(installed=tmp_path / "none").probe(site)


def test_an_empty_shell_of_a_browser_does_not_count(site: Site, program: Program) -> None:
    program("chromium-browser", "echo 'this is a snap now'; exit 10")
    with pytest.raises(MissingError, match="Chromium"):
        Chromium().probe(site)
    path = program("google-chrome", "echo 'Google Chrome 140.0.1.2'")
    assert Chromium().probe(site) == str(path)


def test_git_must_be_there(site: Site, program: Program) -> None:
    with pytest.raises(MissingError):
        Git().probe(site)
    path = program("git", "echo git version 2.39.5")
    assert Git().probe(site) == str(path)


def test_a_claude_of_ones_own_is_taken_if_it_runs(site: Site, program: Program) -> None:
    claude = Claude(name="claude", variable="SAMOVAR_CLAUDE")
    own = program("claude", "echo '2.1.400 (Claude Code)'")
    named = replace(site, environ={"SAMOVAR_CLAUDE": str(own)})
    assert claude.probe(named) == str(own)
    own.write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(MissingError, match=f"SAMOVAR_CLAUDE names {own}, which does not run"):
        claude.probe(named)


def test_a_fetched_claude_is_alone_in_a_folder_of_its_version(
    site: Site, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    folder = site.tools / "claude" / f"{CLAUDE_VERSION}-linux-arm64"
    folder.mkdir(parents=True)
    program("claude", "echo 2.1.330").rename(folder / "claude")
    assert Claude(name="claude").probe(site) == str(folder / "claude")


def test_a_processor_without_a_pinned_claude_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(MissingError, match="this is linux-riscv64"):
        Claude(name="claude", variable="SAMOVAR_CLAUDE").probe(site)


def test_the_devcontainer_cli_is_run_by_the_node_that_was_found(
    site: Site, program: Program, tmp_path: Path
) -> None:
    node = program("my-node", f'echo "$@" > {tmp_path}/ran; echo 0.89.0')
    found = replace(site, found={"node": str(node)}, environ={"SAMOVAR_DEVCONTAINER_JS": "/x.js"})
    assert Devcontainer().probe(found) == "/x.js"
    assert (tmp_path / "ran").read_text() == "/x.js --version\n"


def test_all_programs_that_fill_the_screen_must_be_there(site: Site, program: Program) -> None:
    program("vim", "exit 0")
    program("top", "exit 0")
    with pytest.raises(MissingError, match="less not installed"):
        Screens().probe(site)
    program("less", "exit 0")
    assert Screens().probe(site) == "vim less top"
