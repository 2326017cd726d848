"""Any tree of files comes back equal, whatever its names, kinds, modes and sizes."""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.keep.capture import capture
from agent.keep.restore import restore
from agent.keep.site import Site
from tests.fakes.kept import Forge, picture

SEEN = 0o700 if os.geteuid() else 0
"""Only root can look at what nobody may read."""
Tree = Mapping[bytes, tuple[Any, ...]]
names = (
    (st.binary(min_size=1, max_size=12) | st.binary(min_size=90, max_size=200))
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"0"))
    .filter(lambda name: name not in {b".", b"..", b".git"})
)
modes = st.integers(0, 0o7777).map(lambda mode: mode | SEEN)
contents = (
    st.binary(max_size=600)
    | st.integers(0, 3).map(lambda n: bytes(n * 65_536 + n))
    | st.integers(1, 3).map(lambda n: os.urandom(4) + bytes(n * 70_000) + b"end")
)
files = st.tuples(st.just("file"), modes, contents)
links = st.tuples(
    st.just("symlink"),
    st.binary(min_size=1, max_size=150).map(lambda to: to.replace(b"\0", b"0")),
)
twins = st.tuples(st.just("twin"))
leaves = files | links | twins


def folder_of(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.tuples(st.just("folder"), modes, st.dictionaries(names, children, max_size=4))


trees = st.dictionaries(names, st.recursive(leaves, folder_of, max_leaves=8), max_size=6)


def build(folder: Path, tree: Tree, files: list[Path]) -> None:
    for name, (kind, *rest) in tree.items():
        path = folder / os.fsdecode(name)
        if kind == "file":
            path.write_bytes(rest[1])
            path.chmod(rest[0])
            files.append(path)
        elif kind == "symlink":
            path.symlink_to(os.fsdecode(rest[0]))
        elif kind == "twin" and files:
            path.hardlink_to(files[-1])
        elif kind == "folder":
            path.mkdir()
            build(path, rest[1], files)
            path.chmod(rest[0])


def empty(site: Site) -> None:
    for child in site.tree.iterdir():
        if child.name == ".git":
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    forge = Forge(tmp_path_factory.mktemp("forge"))
    forge.set_up({"a.txt": "a\n", "src/b.txt": "b\n"})
    return forge


@pytest.fixture(scope="module")
def sites(forge: Forge) -> tuple[Site, Site]:
    async def both() -> tuple[Site, Site]:
        return await forge.check_out("w-1"), await forge.check_out("w-2")

    return asyncio.run(both())


@given(tree=trees)
@example(tree={b"a.txt": ("folder", 0o700, {b"b": ("symlink", b"/etc")}), b"src": ("twin",)})
@example(tree={b"a.txt": ("file", 0o755, b"a\n"), b"src": ("folder", 0, {b"b.txt": ("twin",)})})
@example(tree={b"\n20 hdrcharset=x\n\xff": ("file", 0o4755, b""), b":(top)": ("twin",)})
@example(tree={b".gitignore": ("file", 0o644, b"*\n"), b"build\xff": ("folder", 0o700, {})})
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_tree_comes_back_equal(forge: Forge, sites: tuple[Site, Site], tree: Tree) -> None:
    site, fresh = sites
    empty(site)
    build(site.tree, tree, [])
    layout = forge.layout()

    async def there_and_back() -> None:
        copy = await capture(site, scratch=layout.scratch, target=layout.rescue)
        assert copy.left == ()
        await restore(copy.path, fresh, sha256=copy.sha256, scratch=layout.scratch)

    asyncio.run(there_and_back())
    assert picture(fresh.tree) == picture(site.tree)
