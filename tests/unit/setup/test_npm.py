import io
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bot.setup import npm
from bot.setup.missing import MissingError
from bot.setup.npm import Package, fetch, integrity, registry, unpack
from bot.setup.place import placing

Program = Callable[[str, str], Path]


def archive_of(*members: tuple[str, int, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, mode, data in members:
            info = tarfile.TarInfo(name)
            info.mode, info.size = mode, len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


GOOD = archive_of(("package/bin/tea", 0o777, b"#!/bin/sh\n"), ("package/README.md", 0o600, b"tea"))


class Registry(ThreadingHTTPServer):
    """A registry with one package, and levers: what it sends, and how much of it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = GOOD
        self.send_bytes = len(GOOD)
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.send_bytes])

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def shop(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with Registry() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def package(tmp_path: Path) -> Package:
    good = tmp_path / "good.tgz"
    good.write_bytes(GOOD)
    return Package(name="@pot/tea", version="1.2.3", integrity=integrity(good))


def bring(package: Package, folder: Path) -> None:
    with placing(folder) as half:
        unpack(fetch(package, half.parent, what="tea", progress=lambda _line: None), half)


def test_the_right_package_is_unpacked_in_its_place(
    shop: Registry, package: Package, tmp_path: Path
) -> None:
    bring(package, tmp_path / "tools" / "tea")
    assert shop.asked == ["/@pot/tea/-/tea-1.2.3.tgz"]
    assert (tmp_path / "tools/tea/bin/tea").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "tools/tea/README.md").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["tea"]


def test_another_package_than_the_pinned_one_is_never_unpacked(
    shop: Registry, package: Package, tmp_path: Path
) -> None:
    shop.content = archive_of(("package/bin/tea", 0o777, b"#!/bin/evil\n"))
    shop.send_bytes = len(shop.content)
    with pytest.raises(MissingError, match="not the package that we know by its hash"):
        bring(package, tmp_path / "tools" / "tea")
    assert list((tmp_path / "tools").iterdir()) == []


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_download_that_breaks_off_leaves_nothing(
    shop: Registry, package: Package, tmp_path: Path, share: float
) -> None:
    shop.send_bytes = int(len(GOOD) * share)
    with pytest.raises(MissingError, match=r"cannot be fetched: .* broke off after"):
        bring(package, tmp_path / "tools" / "tea")
    assert list((tmp_path / "tools").iterdir()) == []


def test_npm_fetches_where_there_is_npm(program: Program, package: Package, tmp_path: Path) -> None:
    program("npm", f'echo "$@" > {tmp_path}/said; cat {tmp_path}/good.tgz > "$5"/pot-tea.tgz')
    bring(package, tmp_path / "tools" / "tea")
    assert (tmp_path / "said").read_text().startswith("pack @pot/tea@1.2.3 --ignore-scripts")
    assert (tmp_path / "tools/tea/bin/tea").exists()


def test_a_file_that_would_land_elsewhere_is_left_out(tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.tgz"
    hostile.write_bytes(archive_of(("package/../../out", 0o644, b""), ("/out", 0o644, b"")))
    (tmp_path / "in").mkdir()
    unpack(hostile, tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_the_registry_is_the_one_that_npm_would_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry() == npm.REGISTRY
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = https://mirror.example/npm/\n")
    assert registry() == "https://mirror.example/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://other.example")
    assert registry() == "https://other.example"
