from collections.abc import Callable
from pathlib import Path

import pytest

from bot.setup.apt import Apt
from bot.setup.missing import MissingError

Program = Callable[[str, str], Path]


@pytest.fixture
def calls(tmp_path: Path, program: Program) -> Callable[[], list[str]]:
    """Give an `apt-get` that notes its verbs, fails as often as `fail_next` has lines."""
    program("sudo", 'shift; exec "$@"')
    program("apt-cache", f"test -e {tmp_path}/updated && echo '  Candidate: 18.20.4' || true")
    program(
        "apt-get",
        f"""
        for word; do case $word in install|update) verb=$word;; esac; done
        echo $verb $DEBIAN_FRONTEND >> {tmp_path}/calls
        [ $verb = update ] && touch {tmp_path}/updated
        [ $verb = install ] && [ -e {tmp_path}/broken ] && echo 'dpkg --configure -a' && exit 100
        [ $verb = install ] && [ -e {tmp_path}/gone ] && echo '404 Not Found' && exit 100
        exit 0
        """,
    )
    return lambda: (tmp_path / "calls").read_text().splitlines()


def install(apt: Apt, *packages: str) -> None:
    apt.install(packages, mend="mend it", progress=lambda _line: None)


def test_lists_are_read_when_a_package_is_unknown_and_only_once(
    calls: Callable[[], list[str]],
) -> None:
    apt = Apt()
    install(apt, "git")
    install(apt, "nodejs")
    assert calls() == ["update noninteractive", "install noninteractive", "install noninteractive"]
    assert apt.candidate("nodejs") == "18.20.4"


def test_lists_that_are_out_of_date_are_read_anew(
    calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "updated").touch()
    (tmp_path / "gone").touch()
    with pytest.raises(MissingError, match="404 Not Found") as caught:
        install(Apt(), "git")
    assert caught.value.mend == "mend it"
    verbs = [call.split()[0] for call in calls()]
    assert verbs == ["install", "update", "install"]


def test_an_interrupted_installation_is_completed_first(
    calls: Callable[[], list[str]], program: Program, tmp_path: Path
) -> None:
    (tmp_path / "updated").touch()
    (tmp_path / "broken").touch()
    program("dpkg", f"echo dpkg $@ >> {tmp_path}/calls; exec /bin/rm {tmp_path}/broken")
    install(Apt(), "git")
    assert calls() == [
        "install noninteractive",
        "dpkg --configure -a",
        "install noninteractive",
    ]


def test_a_machine_without_apt_is_told_the_command(program: Program) -> None:
    with pytest.raises(MissingError, match="no apt-get here to install git"):
        install(Apt(), "git")
    assert Apt().candidate("git") == ""
