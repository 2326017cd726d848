"""xterm.js from a registry on this machine: what a page loads lies in one folder, or nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from bot.setup import xterm
from bot.setup.missing import MissingError
from bot.setup.npm import Package, integrity
from bot.setup.requirement import Site
from bot.setup.xterm import FILES
from tests.unit.setup.test_npm import Program, archive_of


def _package(folder: Path, short: str, *files: str) -> Package:
    members = [(f"package/{file}", 0o644, file.encode()) for file in (*files, "LICENSE", "x.ts")]
    archive = folder / f"{short}.tgz"
    archive.write_bytes(archive_of(*members))
    return Package(name=f"@xterm/{short}", version="1.0.0", integrity=integrity(archive))


@pytest.fixture
def npm(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that hands out archives of this folder."""
    addons = [f"addon-{name}" for name in ("fit", "search", "web-links", "unicode-graphemes")]
    packages = (
        _package(tmp_path, "xterm", "lib/xterm.mjs", "lib/xterm.js", "css/xterm.css"),
        *(_package(tmp_path, addon, f"lib/{addon}.mjs") for addon in addons),
    )
    monkeypatch.setattr(xterm, "PACKAGES", packages)
    program("npm", f'short=${{2#@xterm/}}; cat {tmp_path}/"${{short%@*}}".tgz > "$5"/one.tgz')
    return tmp_path


def test_what_a_page_loads_lies_in_one_folder_with_the_licences(npm: Path, site: Site) -> None:
    xterm.xterm().provide(site)
    folder = Path(xterm.xterm().probe(site))
    names = {path.name for path in folder.iterdir()}
    assert set(FILES) <= names
    assert "LICENSE-addon-fit" in names
    assert not names & {"xterm.js", "x.ts"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_one_wrong_package_leaves_nothing_of_any(npm: Path, site: Site) -> None:
    (npm / "addon-search.tgz").write_bytes((npm / "addon-fit.tgz").read_bytes())
    with pytest.raises(MissingError, match="not the package that we know by its hash"):
        xterm.xterm().provide(site)
    with pytest.raises(MissingError, match="is not fetched"):
        xterm.xterm().probe(site)


def test_a_new_pin_is_fetched_anew(npm: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    xterm.xterm().provide(site)
    newer = _package(npm, "addon-fit", "lib/addon-fit.mjs", "lib/more.mjs")
    others = [package for package in xterm.PACKAGES if package.name != newer.name]
    monkeypatch.setattr(xterm, "PACKAGES", (*others, newer))
    with pytest.raises(MissingError):
        xterm.xterm().probe(site)


def test_a_folder_of_ones_own_must_be_whole(site: Site, tmp_path: Path) -> None:
    named = replace(site, environ={"SAMOVAR_XTERM": str(tmp_path)})
    with pytest.raises(MissingError, match=r"SAMOVAR_XTERM names .* has no xterm\.mjs"):
        xterm.xterm().probe(named)
    for file in FILES:
        (tmp_path / file).touch()
    assert xterm.xterm().probe(named) == str(tmp_path)
