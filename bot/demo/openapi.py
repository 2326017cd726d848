"""A vendor's own description of its API: what is asked and answered is held against it.

The documents are OpenAPI 3.0; `_modern` reads them as JSON Schema 2020-12, with `nullable` the way
vendors mean it: beside `allOf`, `enum` and `$ref` as well.
"""

import copy
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

ROOT = "urn:described"
VERBATIM = ("example", "examples", "default", "enum")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in a request or an answer that the description does not allow."""

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
    """The operations that we know, their examples and their judges.

    Args:
        document: The description, with its origin under `x-source`.
        error: The schema of answers with an error's status that is not described.
        slashes: Path parameters that may contain slashes.
    """

    def __init__(
        self,
        document: dict[str, Any],
        *,
        error: str,
        slashes: Sequence[str] = (),
    ) -> None:
        self.source: dict[str, str] = document["x-source"]
        self._error = error
        self._document: dict[str, Any] = _modern(document)
        resource = DRAFT202012.create_resource(self._document)
        self._registry: Registry[Any] = Registry().with_resource(ROOT, resource)
        self._operations = list(_operations(self._document, slashes))
        self._judges: dict[str, Draft202012Validator] = {}

    @classmethod
    def read(cls, path: Path, *, error: str, slashes: Sequence[str] = ()) -> "Schema":
        """Read a compressed document."""
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return cls(json.load(file), error=error, slashes=slashes)

    def operation(self, method: str, path: str) -> Operation | None:
        """Return the operation that serves `method path`."""
        for operation in self._operations:
            if operation.method == method and operation.pattern.fullmatch(path):
                return operation
        return None

    def example(self, name: str, status: int) -> Any:
        """Return a fresh copy of the vendor's example answer of the operation called `name`."""
        operation = next(op for op in self._operations if op.name == name)
        content = self._content(operation, status) or {}
        first = next(iter(content["examples"].values()))
        return copy.deepcopy(self._resolved(first)["value"])

    def body(self, schema: str) -> Any:
        """Return a body of the schema of that name, made of the examples beside its properties."""
        return self._body({"$ref": f"#/components/schemas/{schema}"})

    def _body(self, node: dict[str, Any]) -> Any:
        node = self._resolved(node)
        if "example" in node:
            return copy.deepcopy(node["example"])
        if {"type": "null"} in node.get("anyOf", ()) or "null" in node.get("type", ()):
            return None
        if "allOf" in node:
            parts = [self._body(part) for part in node["allOf"]]
            return {key: value for part in parts for key, value in part.items()}
        if "enum" in node:
            return node["enum"][0]
        if "properties" in node:
            return {name: self._body(part) for name, part in node["properties"].items()}
        return {"array": [], "object": {}, "boolean": False, "string": ""}.get(node["type"], 1)

    def request_faults(
        self, operation: Operation, query: Mapping[str, str], body: object
    ) -> list[str]:
        """Return what is wrong with a request, by the description."""
        faults = list(self._query_faults(operation, query))
        described = operation.definition.get("requestBody")
        if described and (body is not None or described.get("required")):
            faults += self._faults(described["content"]["application/json"]["schema"], body)
        return faults

    def response_faults(self, operation: Operation, status: int, body: object) -> list[str]:
        """Return what is wrong with an answer, by the description."""
        if str(status) not in operation.definition["responses"]:
            if status < 400:
                return [f"status {status} is not described"]
            return self._faults({"$ref": self._error}, body)  # Vendors name few of them.
        content = self._content(operation, status)
        if content is None:
            return [] if body is None else ["an answer without a body was described"]
        return self._faults(content["schema"], body)

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


def _operations(document: dict[str, Any], slashes: Sequence[str]) -> Iterator[Operation]:
    # Longest first: `commits/{ref}/check-runs` before `commits/{ref}`, whose ref may have slashes.
    for path in sorted(document["paths"], key=lambda path: -path.count("/")):
        methods = document["paths"][path]
        for method, definition in methods.items():
            yield Operation(
                name=definition["operationId"],
                method=method.upper(),
                pattern=re.compile(_pattern(path, slashes)),
                definition=definition,
            )


def _pattern(path: str, slashes: Sequence[str]) -> str:
    parts = re.split(r"\{(\w+)\}", path)
    names: Sequence[str] = parts[1::2]
    inner = ["(.+)" if name in slashes else "([^/]+)" for name in names]
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
