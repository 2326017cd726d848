from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.setup.images import PULLED, BaseImage
from bot.setup.missing import MissingError
from bot.setup.requirement import Site

Program = Callable[[str, str], Path]


@pytest.fixture
def docker(program: Program, tmp_path: Path) -> Path:
    """Give an engine that keeps image names in a file and reaches no registry."""
    images = tmp_path / "images"
    images.touch()
    program(
        "docker",
        f"""
        shift 2
        for last; do :; done
        case $1 in
            image) while read name; do [ "$name" = "$last" ] && exit 0; done < {images}; exit 1;;
            pull) echo "no such host"; exit 1;;
            import) echo "$@" >> {tmp_path}/imported; echo "$last" >> {images};;
        esac
        """,
    )
    return images


@pytest.fixture
def with_docker(site: Site, docker: Path) -> Site:
    site.state.mkdir()
    return replace(site, found={"docker": "unix:///engine.sock"})


def test_a_configured_image_is_used_and_no_other(with_docker: Site, docker: Path) -> None:
    docker.write_text(f"{PULLED}\n")
    named = replace(with_docker, environ={"SAMOVAR_BASE_IMAGE": "acme/base:1"})
    with pytest.raises(MissingError, match="no image acme/base:1") as caught:
        BaseImage().probe(named)
    assert caught.value.mend == "docker pull acme/base:1"
    with pytest.raises(MissingError, match="cannot be pulled: no such host"):
        BaseImage().provide(named)
    docker.write_text("acme/base:1\n")
    assert BaseImage().probe(named) == "acme/base:1"


def test_where_none_can_be_pulled_one_is_built(with_docker: Site, program: Program) -> None:
    program("sudo", 'shift; exec "$@"')
    program("mmdebstrap", 'for last; do :; done; echo root > "$last"')
    BaseImage().provide(with_docker)
    assert BaseImage().probe(with_docker).startswith("samovar-base:")
    imported = with_docker.state.with_name("imported").read_text()
    assert """LABEL devcontainer.metadata='[{"remoteUser":"dev"}]'""" in imported
    assert list(with_docker.state.iterdir()) == []


def test_a_build_that_breaks_off_makes_no_image(
    with_docker: Site, docker: Path, program: Program
) -> None:
    program("sudo", 'shift; exec "$@"')
    program("mmdebstrap", 'for last; do :; done; echo half > "$last"; kill -9 $$')
    with pytest.raises(MissingError, match="cannot be built"):
        BaseImage().provide(with_docker)
    assert docker.read_text() == ""
    assert list(with_docker.state.iterdir()) == []


def test_without_permission_the_command_is_named(with_docker: Site) -> None:
    with pytest.raises(MissingError) as caught:
        BaseImage().provide(replace(with_docker, may_install=False))
    assert caught.value.mend == f"docker pull {PULLED}"
