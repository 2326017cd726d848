"""The part of an OpenAPI document that some operations need."""

# ruff: noqa: INP001  scripts are run by path and are no package

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

KEPT = ("operationId", "parameters", "requestBody", "responses")


def references(node: object) -> Iterator[str]:
    """Yield every `$ref` below `node`."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def subset(document: dict[str, Any], operations: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Keep these methods of these paths, and everything that they refer to."""
    paths = {
        path: {method: {k: document["paths"][path][method].get(k) for k in KEPT} for method in ours}
        for path, ours in operations.items()
    }
    components: dict[str, dict[str, Any]] = {}
    waiting = set(references(paths))
    while waiting:
        _, _, section, name = waiting.pop().split("/")
        if name in components.get(section, {}):
            continue
        part = document["components"][section][name]
        components.setdefault(section, {})[name] = part
        waiting |= set(references(part))
    info = {
        key: document["info"][key]
        for key in ("title", "version", "license")
        if key in document["info"]
    }
    return {"openapi": document["openapi"], "info": info, "paths": paths, "components": components}


def write(document: dict[str, Any], target: Path) -> None:
    """Write a document, the same bytes on every run."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    target.write_bytes(gzip.compress(text.encode(), mtime=0))
