"""The node agent as one file: a zip of pure Python that any Python from 3.11 on runs."""

import hashlib
import importlib.util
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

PACKAGES = (
    "agent",
    "aiodocker",
    "aiohappyeyeballs",
    "aiohttp",
    "aiosignal",
    "attr",
    "attrs",
    "frozenlist",
    "idna",
    "multidict",
    "propcache",
    "pyte",
    "wcwidth",
    "yarl",
)
MODULES = (
    "core",
    "core.browse",
    "core.ids",
    "core.link",
    "core.viewing",
    "core.wire",
    "typing_extensions",
)
MAIN = b"from agent.__main__ import main\n\nmain()\n"
SHEBANG = b"#!/usr/bin/env python3\n"
WHEN = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip file can name: the same bytes on every build."""


@dataclass(frozen=True, slots=True)
class AgentFile:
    """The file and its name.

    Attributes:
        sha256: In hex; it is served as `/node/v1/agent/{sha256}.pyz`.
    """

    data: bytes = field(repr=False)
    sha256: str


@cache
def agent_file() -> AgentFile:
    """Build the file from what is installed. Compiled parts are left out: all have Python twins."""
    buffer = BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(_content().items()):
            entry = zipfile.ZipInfo(name, WHEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    data = buffer.getvalue()
    return AgentFile(data, hashlib.sha256(data).hexdigest())


def _content() -> dict[str, bytes]:
    content = {"__main__.py": MAIN}
    for package in PACKAGES:
        for name, path in _package(package):
            content[name] = path.read_bytes()
    for module in MODULES:
        name, path = _module(module)
        content[name] = path.read_bytes()
    return content


def _package(package: str) -> Iterator[tuple[str, Path]]:
    root = _module(package)[1].parent
    for path in root.rglob("*.py"):
        yield f"{package}/{path.relative_to(root).as_posix()}", path


def _module(module: str) -> tuple[str, Path]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    path = Path(spec.origin)
    stem = module.replace(".", "/")
    return (f"{stem}/__init__.py" if path.name == "__init__.py" else f"{stem}.py"), path
