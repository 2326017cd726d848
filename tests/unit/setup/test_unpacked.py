"""Packages that are unpacked and not installed, by an apt and a dpkg of the test."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.setup.missing import MissingError
from bot.setup.requirement import Site
from bot.setup.unpacked import Unpacked

Program = Callable[[str, str], Path]

TEA = Unpacked(
    name="tea",
    packages=("tea", "milk"),
    program="bin/tea",
    asking=("--version",),
    variable="SAMOVAR_TEA",
)
UNPACK = """
[ "$1" = -x ] && mkdir -p "$3/bin" || exit 2
case $2 in *tea*) printf '#!/bin/sh\\necho tea 1.2\\n' > "$3/bin/tea"; chmod +x "$3/bin/tea" ;; esac
"""


@pytest.fixture
def debian(program: Program) -> None:
    program("apt-cache", "echo '  Candidate: 1.2'")
    program("apt-get", 'shift 2; for name in "$@"; do : > "$name.deb"; done')
    program("dpkg-deb", UNPACK)
    (program("x", "").parent / "chmod").symlink_to("/bin/chmod")


@pytest.mark.usefixtures("debian")
def test_packages_are_unpacked_below_the_state_folder_and_nothing_is_installed(site: Site) -> None:
    with pytest.raises(MissingError, match="tea milk not fetched"):
        TEA.probe(site)
    TEA.provide(site)
    assert TEA.probe(site) == str(site.tools / "tea")
    assert not list(site.state.rglob("*.deb"))
    assert (site.tools / "tea/bin/tea").is_file()


@pytest.mark.usefixtures("debian")
def test_a_named_folder_is_tried_and_no_other(site: Site, tmp_path: Path) -> None:
    TEA.provide(site)
    with pytest.raises(MissingError):
        TEA.probe(replace(site, environ={"SAMOVAR_TEA": str(tmp_path)}))


def test_a_download_that_fails_leaves_nothing_and_says_why(site: Site, program: Program) -> None:
    program("apt-cache", "echo '  Candidate: 1.2'")
    program("apt-get", "echo no route to host >&2; exit 100")
    program("dpkg-deb", "true")
    with pytest.raises(MissingError, match="no route to host"):
        TEA.provide(site)
    assert not (site.tools / "tea").exists()


def test_without_debian_the_variable_is_named(site: Site, program: Program) -> None:
    del program
    with pytest.raises(MissingError, match="SAMOVAR_TEA"):
        TEA.provide(site)
    with pytest.raises(MissingError, match="not fetched"):
        TEA.provide(replace(site, may_install=False))
