"""A machine that has neither Node.js nor a distribution that brings a new enough one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.setup.missing import MissingError
from bot.setup.node import AT_LEAST, Node
from bot.setup.program import version
from bot.setup.requirement import Site
from tests.fakes.lacking import lacking

Program = Callable[[str, str], Path]


@pytest.mark.long
@pytest.mark.parametrize("found", ["none", "old"])
def test_the_pinned_node_of_pypi_is_fetched_and_runs_the_devcontainer_cli(
    site: Site, program: Program, found: str
) -> None:
    cli = os.environ.get("SAMOVAR_DEVCONTAINER_JS", "")
    if not Path(cli).is_file():
        lacking("SAMOVAR_DEVCONTAINER_JS: path of devcontainer.js")
    if found == "old":
        program("node", "echo v12.22.0")
    assert shutil.which("apt-get") is None, "the machine of this test has no packages"
    with pytest.raises(MissingError):
        Node().probe(site)
    Node().provide(site)
    node = Node().probe(site)
    assert Path(node).is_relative_to(site.state)
    assert version([node, "--version"]) >= AT_LEAST
    assert version([node, cli, "--version"])
