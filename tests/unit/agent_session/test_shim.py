"""The `claude` of shells: a warning where a conversation is at work, else the program itself."""

import os
import subprocess
from pathlib import Path

import pytest

from agent import shim
from agent.launcher import INSIDE
from agent.override import CLAUDE
from tests.fakes.lacking import lacking

ID, OTHER = "5f0f7a3e-6a40-4b6e-9c0e-0d7a9a7b6c11", "0d7a9a7b-6a40-4b6e-9c0e-5f0f7a3e6c11"


@pytest.fixture(params=["sh", "bash", "busybox"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    if request.param != "busybox":
        return [request.param]
    busybox = Path(os.environ.get("SAMOVAR_MUSL", "/nowhere")) / "bin/busybox"
    if not busybox.is_file():
        lacking("SAMOVAR_MUSL: folder with the packages busybox-static and musl")
    return [str(busybox), "sh"]


class Home:
    """A run directory, a `claude` that says how it was called, and the shim in front of it."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.shell = shell
        self.sessions = folder / "run/s"
        self.tools, self.real = folder / "samovar/tools/bin", folder / "real"
        for made in (self.sessions, self.tools, self.real):
            made.mkdir(parents=True)
        text = shim.SHIM.replace(INSIDE, str(folder / "run")).replace(CLAUDE, "/nowhere/claude")
        self.shim = self.tools / "claude"
        self.shim.write_text(text)
        self.make(self.real / "claude", '#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')

    def make(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def session(self, name: str, *, pid: int, terminal: str = "", is_over: bool = False) -> None:
        box = self.sessions / name
        box.mkdir()
        (box / "pid").write_text(f"{pid}\n")
        (box / "terminal").write_text(terminal)
        if is_over:
            (box / "exit").write_text("0\n")

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.tools}:{self.real}:/usr/bin:/bin"
        called = [*self.shell, str(self.shim), *words]
        return subprocess.run(
            called, env={"PATH": path, **env}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def home(tmp_path: Path, shell: list[str]) -> Home:
    return Home(tmp_path, shell)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a prompt", "", "two  spaces", "it's $HOME"],
        ["--resume", OTHER],
        [f"--resume={OTHER}", "-p", "*"],
        ["--resume", ID, "--fork-session"],
        ["-c", "--fork-session"],
        ["--", "--resume", ID],
    ],
)
def test_all_else_passes_through_untouched_with_its_exit_status(
    home: Home, words: list[str]
) -> None:
    home.session(ID, pid=os.getpid())
    done = home.run(*words)
    assert (done.stdout, done.stderr) == ("".join(f"{w}\n" for w in words or [""]), "")
    assert done.returncode == 7


@pytest.mark.parametrize(
    "words",
    [
        ["--resume", ID],
        [f"--resume={ID}"],
        ["-r", ID],
        ["--resume"],
        ["-r", "--verbose"],
        ["--continue"],
        ["-c", "go on"],
        ["-pc", "go on"],
    ],
)
def test_g6_a_conversation_at_work_is_not_opened_twice_by_hand(
    home: Home, words: list[str]
) -> None:
    home.session(ID, pid=os.getpid())
    done = home.run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{ID} is at work for its thread" in done.stderr
    for way in ("Open in terminal", f"claude --resume {ID} --fork-session", "SAMOVAR_ANYWAY=1"):
        assert way in done.stderr
    assert home.run(*words, SAMOVAR_ANYWAY="1").returncode == 7


def test_one_that_is_in_a_terminal_is_at_work_too(home: Home) -> None:
    home.session(ID, pid=2**22 + 1, terminal="t-1", is_over=True)
    assert "is open in a terminal" in home.run("--resume", ID).stderr


@pytest.mark.parametrize("is_over", [True, False])
def test_one_whose_program_has_gone_is_free(home: Home, is_over: bool) -> None:
    home.session(ID, pid=os.getpid() if is_over else 2**22 + 1, is_over=is_over)
    assert home.run("--resume", ID).returncode == home.run("-c").returncode == 7


def test_without_another_claude_it_is_the_one_that_agents_use(home: Home) -> None:
    (home.real / "claude").unlink()
    assert "/nowhere/claude" in home.run("x").stderr


def test_our_folder_is_first_on_the_path_and_again_after_a_login_shell_has_set_it() -> None:
    assert shim.first_on_path({"PATH": "/bin"})["PATH"] == f"{shim.FOLDER}:/bin"
    assert shim.first_on_path({})["PATH"].startswith(f"{shim.FOLDER}:/usr/local/sbin:")
    script = f"{shim.PROFILE}{shim.PROFILE}echo $PATH"

    def path(**env: str) -> str:
        words, known = ["/bin/sh", "-c", script], {"PATH": "/bin", **env}
        return subprocess.check_output(words, env=known, text=True).strip()

    assert path() == "/bin", "only in our terminals"
    assert path(SAMOVAR_TERMINAL="t-1") == f"{shim.FOLDER}:/bin"
