"""GitHub's own description of its API: what is asked and answered is held against it.

The document is cut from GitHub's OpenAPI description (see `github-openapi.NOTICE.md`). It is
OpenAPI 3.0; `_modern` reads it as JSON Schema 2020-12, with `nullable` the way GitHub means it:
beside `allOf`, `enum` and `$ref` as well.
"""

import copy
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

DOCUMENT = Path(__file__).with_name("github-openapi.json.gz")
ROOT = "urn:github"
VERBATIM = ("example", "examples", "default", "enum")
SLASHES = ("ref", "branch", "path")
"""Path parameters that may contain slashes."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """A fault that GitHub itself commits against its description, and why we let it pass."""

    operation: re.Pattern[str]
    fault: re.Pattern[str]
    reason: str


WAIVERS = (
    Waiver(
        operation=re.compile(".*"),
        fault=re.compile(r"status [45]\d\d is not described"),
        reason="the description names few error statuses; others are judged as `basic-error`",
    ),
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in a request or an answer that GitHub's description does not allow."""

    where: str
    fault: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, with its definition in the document."""

    name: str
    method: str
    pattern: re.Pattern[str]
    definition: dict[str, Any]


class Schema:
    """The operations that we know, their examples and their judges."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.source: dict[str, str] = document["x-source"]
        self._document: dict[str, Any] = _modern(document)
        resource = DRAFT202012.create_resource(self._document)
        self._registry: Registry[Any] = Registry().with_resource(ROOT, resource)
        self._operations = list(_operations(self._document))
        self._judges: dict[str, Draft202012Validator] = {}

    def operation(self, method: str, path: str) -> Operation | None:
        """Return the operation that serves `method path`."""
        for operation in self._operations:
            if operation.method == method and operation.pattern.fullmatch(path):
                return operation
        return None

    def example(self, name: str, status: int) -> Any:
        """Return a fresh copy of GitHub's example answer of the operation called `name`."""
        operation = next(op for op in self._operations if op.name == name)
        content = self._content(operation, status) or {}
        first = next(iter(content["examples"].values()))
        return copy.deepcopy(self._resolved(first)["value"])

    def request_faults(
        self, operation: Operation, query: Mapping[str, str], body: object
    ) -> list[str]:
        """Return what is wrong with a request, by GitHub's description."""
        faults = list(self._query_faults(operation, query))
        described = operation.definition.get("requestBody")
        if described and (body is not None or described.get("required")):
            faults += self._faults(described["content"]["application/json"]["schema"], body)
        return faults

    def response_faults(self, operation: Operation, status: int, body: object) -> list[str]:
        """Return what is wrong with an answer, by GitHub's description."""
        if str(status) not in operation.definition["responses"]:
            faults = [f"status {status} is not described"]
            if status >= 400:
                faults += self._faults({"$ref": "#/components/schemas/basic-error"}, body)
            return [fault for fault in faults if not _is_waived(operation, fault)]
        content = self._content(operation, status)
        if content is None:
            return [] if body is None else ["an answer without a body was described"]
        faults = self._faults(content["schema"], body)
        return [fault for fault in faults if not _is_waived(operation, fault)]

    def _query_faults(self, operation: Operation, query: Mapping[str, str]) -> Iterator[str]:
        parameters = [self._resolved(p) for p in operation.definition.get("parameters") or ()]
        known = {p["name"]: p["schema"] for p in parameters if p["in"] == "query"}
        for name, text in query.items():
            if name not in known:
                yield f"query {name}: is not described"
                continue
            value = int(text) if known[name].get("type") == "integer" and text.isdigit() else text
            yield from (f"query {name}: {fault}" for fault in self._faults(known[name], value))

    def _content(self, operation: Operation, status: int) -> dict[str, Any] | None:
        answer = self._resolved(operation.definition["responses"][str(status)])
        content: dict[str, Any] | None = answer.get("content", {}).get("application/json")
        return content

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            pointer = node["$ref"].removeprefix(ROOT).removeprefix("#/")
            node = self._document
            for part in pointer.split("/"):
                node = node[part]
        return node

    def _faults(self, schema: dict[str, Any], value: object) -> list[str]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._judges:
            rooted = json.loads(key.replace('"#/', f'"{ROOT}#/'))
            self._judges[key] = Draft202012Validator(rooted, registry=self._registry)
        return [
            f"{'/'.join(map(str, error.absolute_path)) or '.'}: {error.message[:200]}"
            for error in self._judges[key].iter_errors(value)
        ]


@cache
def github() -> Schema:
    """Read the document once per process."""
    with gzip.open(DOCUMENT, "rt", encoding="utf-8") as file:
        return Schema(json.load(file))


def _is_waived(operation: Operation, fault: str) -> bool:
    return any(w.operation.fullmatch(operation.name) and w.fault.search(fault) for w in WAIVERS)


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    # Longest first: `commits/{ref}/check-runs` before `commits/{ref}`, whose ref may have slashes.
    for path in sorted(document["paths"], key=lambda path: -path.count("/")):
        methods = document["paths"][path]
        for method, definition in methods.items():
            yield Operation(
                name=definition["operationId"],
                method=method.upper(),
                pattern=re.compile(_pattern(path)),
                definition=definition,
            )


def _pattern(path: str) -> str:
    parts = re.split(r"\{(\w+)\}", path)
    names: Sequence[str] = parts[1::2]
    inner = ["(.+)" if name in SLASHES else "([^/]+)" for name in names]
    return "".join(
        re.escape(text) + group for text, group in zip(parts[::2], [*inner, ""], strict=True)
    )


def _modern(node: Any) -> Any:
    if isinstance(node, list):
        return [_modern(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {k: v if k in VERBATIM else _modern(v) for k, v in node.items()}
    if out.get("nullable") is not True:
        return out
    del out["nullable"]
    if isinstance(out.get("type"), str) and not {"allOf", "oneOf", "anyOf", "$ref"} & out.keys():
        out["type"] = [out["type"], "null"]
        if "enum" in out and None not in out["enum"]:
            out["enum"] = [*out["enum"], None]
        return out
    return {"anyOf": [out, {"type": "null"}]}
