"""Hetzner Cloud's API for servers, over a socket. Bodies begin with the vendor's own examples."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.hetzner.compute import HetznerCompute, build
from bot.demo.openapi import Schema, Violation
from core.secret import Secret
from tests.fakes.hetzner.schema import hetzner
from tests.fakes.serving import serving

TOKEN = "hetzner-token"
"""Of the project that the stand-in is."""
TYPES = (
    ("cx23", "x86", 2, 4, "0.0088"),
    ("cx33", "x86", 4, 8, "0.0136"),
    ("cpx22", "x86", 2, 4, "0.0312"),
    ("cpx32", "x86", 4, 8, "0.0569"),
    ("cx43", "x86", 8, 16, "0.0256"),
    ("cax11", "arm", 2, 4, "0.0072"),
)
"""Name, architecture, processors, GB of memory, net euros an hour: as of autumn 2026."""
LOCATIONS = ("fsn1", "nbg1", "hel1")
HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?")
LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")
USER_DATA_BYTES_MAX = 32_768
PAGE_MAX = 50


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message, "details": None}}


NO_CAPACITY = ApiError(412, "resource_unavailable", "error during placement")


@dataclass(kw_only=True)
class HetznerApi:
    """A project with its servers.

    Levers: `sold_out` has (type, location) of which there is none, and `refused` those of which it
    is said that there are, but there are none; `limit` of servers; `fail_next`
    is answered instead of the next request of a method and path, `lose_next` after it took effect;
    `is_short` leaves the last server out of every list, which still counts it; `boot_s`.

    Attributes:
        bill: Servers made so far.
        violations: What was asked or answered against the vendor's description.
    """

    limit: int = 100
    boot_s: float = 0.0
    delete_s: float = 0.0
    is_short: bool = False
    sold_out: set[tuple[str, str]] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    fail_next: dict[tuple[str, str], ApiError] = field(default_factory=dict)
    lose_next: dict[tuple[str, str], ApiError] = field(default_factory=dict)
    servers: dict[int, dict[str, Any]] = field(default_factory=dict)
    user_data: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    bill: int = 0
    url: str = ""
    _schema: Schema = field(default_factory=hetzner)
    _numbers: "count[int]" = field(default_factory=lambda: count(1001))

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/{path:path}", self._serve, methods=["GET", "POST", "DELETE", "PUT"])]
        )

    async def _serve(self, request: Request) -> Response:
        path = f"/{request.path_params['path']}"
        raw = await request.body()
        body = json.loads(raw) if raw else None
        self.asked.append((request.method, path))
        operation = self._schema.operation(request.method, path)
        if operation is None:
            self._note(path, f"{request.method} is not served here")
            return Response(status_code=501)
        for fault in self._schema.request_faults(operation, request.query_params, body):
            self._note(operation.name, fault)
        try:
            status, answer = self._judged(request, path, body)
        except ApiError as error:
            status, answer = error.status, error.body
        for fault in self._schema.response_faults(operation, status, answer):
            self._note(operation.name, fault)
        return Response(json.dumps(answer), status, media_type="application/json")

    def _note(self, where: str, fault: str) -> None:
        self.violations.append(Violation(where, fault))

    def _judged(self, request: Request, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        asked = (request.method, path)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise ApiError(401, "unauthorized", "unable to authenticate")
        if (failure := self.fail_next.pop(asked, None)) is not None:
            raise failure
        answered = self._answer(request.method, path, request.query_params, body)
        if (loss := self.lose_next.pop(asked, None)) is not None:
            raise loss
        return answered

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: Any
    ) -> tuple[int, dict[str, Any]]:
        if path == "/server_types":
            return 200, _page("server_types", [self._type(one[0]) for one in TYPES], query)
        if path == "/servers" and method == "GET":
            found = [one for one in self.servers.values() if _selected(one, query)]
            listed = _page("servers", found, query)
            if self.is_short and listed["servers"]:
                del listed["servers"][-1]
            return 200, listed
        if path == "/servers":
            return 201, self._create(body)
        number = int(path.rpartition("/")[2])
        if number not in self.servers:
            raise ApiError(404, "not_found", f"server with ID '{number}' not found")
        server = self.servers[number]
        if method == "DELETE":
            server["status"] = "deleting"
            gone = self._action("delete_server", number)
            self._later(self.delete_s, lambda: self.servers.pop(number, None))
            return 200, {"action": gone}
        return 200, {"server": server}

    def _create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self._check(wanted)
        place = (str(wanted["server_type"]), str(wanted.get("location") or LOCATIONS[0]))
        if place in self.sold_out | self.refused:
            raise NO_CAPACITY
        number = next(self._numbers)
        server = self._schema.body("server")
        server |= {
            "id": number,
            "name": wanted["name"],
            "labels": wanted.get("labels") or {},
            "status": "initializing",
            "created": _now(),
            "server_type": self._type(place[0]),
            "location": self._schema.body("location") | {"name": place[1]},
            "locked": False,
        }
        self.servers[number] = server
        self.user_data[wanted["name"]] = wanted.get("user_data") or ""
        self.bill += 1
        self._later(self.boot_s, lambda: server.update(status="running"))
        return {
            "server": dict(server, status="initializing"),
            "action": self._action("create_server", number),
            "next_actions": [self._action("start_server", number)],
            "root_password": "YItygq1v3GYjjMomLaKc",
        }

    def _check(self, wanted: dict[str, Any]) -> None:
        labels = wanted.get("labels") or {}
        if not HOSTNAME.fullmatch(wanted["name"]):
            raise ApiError(422, "invalid_input", "invalid input in field 'name'")
        if not all(LABEL.fullmatch(word) for pair in labels.items() for word in pair):
            raise ApiError(422, "invalid_input", "invalid input in field 'labels'")
        if len((wanted.get("user_data") or "").encode()) > USER_DATA_BYTES_MAX:
            raise ApiError(422, "invalid_input", "invalid input in field 'user_data'")
        if any(one["name"] == wanted["name"] for one in self.servers.values()):
            raise ApiError(409, "uniqueness_error", "server name is already used")
        if len(self.servers) >= self.limit:
            raise ApiError(403, "resource_limit_exceeded", "server limit exceeded")

    def _type(self, name: str) -> dict[str, Any]:
        index, row = next(
            ((index, row) for index, row in enumerate(TYPES) if row[0] == name), (0, None)
        )
        if row is None:
            raise ApiError(422, "invalid_input", "invalid input in field 'server_type'")
        price = self._schema.body("price")
        hour = {"net": row[4], "gross": row[4]}
        offered: dict[str, Any] = self._schema.body("server_type") | {
            "id": index + 101,
            "name": name,
            "architecture": row[1],
            "cores": row[2],
            "memory": row[3],
            "deprecated": False,
            "deprecation": None,
        }
        offered["prices"] = [
            self._schema.body("price_per_time")
            | {"location": place, "price_hourly": hour, "price_monthly": price}
            for place in LOCATIONS
        ]
        offered["locations"] = [
            {
                "id": number,
                "name": place,
                "deprecation": None,
                "available": (name, place) not in self.sold_out,
                "recommended": True,
            }
            for number, place in enumerate(LOCATIONS, 1)
        ]
        return offered

    def _action(self, command: str, server: int) -> dict[str, Any]:
        made: dict[str, Any] = self._schema.body("action") | {
            "id": next(self._numbers),
            "command": command,
            "status": "running",
            "progress": 0,
            "started": _now(),
            "finished": None,
            "error": None,
            "resources": [{"id": server, "type": "server"}],
        }
        return made

    def _later(self, after_s: float, work: Callable[[], object]) -> None:
        if after_s:
            asyncio.get_running_loop().call_later(after_s, work)
        else:
            work()


def hetzner(api: HetznerApi, *, installation: str = "ours", token: str = TOKEN) -> HetznerCompute:
    """Return the adapter as a new process sees it."""
    made = build(
        token=Secret(token),
        installation=installation,
        image="debian-12",
        locations=LOCATIONS,
        architectures=("x86",),
        user_data=lambda node, enrolment: f"{node} {enrolment.reveal()}",
        api_url=api.url,
    )
    made.look_s = 0.01
    return made


@asynccontextmanager
async def hetzner_api(*, allow_violations: bool = False) -> AsyncGenerator[HetznerApi]:
    """Serve a project for the length of the block; what was against the description fails."""
    api = HetznerApi()
    async with serving(api.app, at="/v1") as url:
        api.url = f"{url}/v1"
        yield api
    assert allow_violations or not api.violations, api.violations


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _selected(server: dict[str, Any], query: Mapping[str, str]) -> bool:
    if "name" in query and server["name"] != query["name"]:
        return False
    wanted = [term.partition("=") for term in query.get("label_selector", "").split(",") if term]
    return all(server["labels"].get(key) == value for key, _, value in wanted)


def _page(name: str, found: list[Any], query: Mapping[str, str]) -> dict[str, Any]:
    size, page = min(int(query.get("per_page", 25)), PAGE_MAX), int(query.get("page", 1))
    last = max(1, -(-len(found) // size))
    return {
        name: found[(page - 1) * size : page * size],
        "meta": {
            "pagination": {
                "page": page,
                "per_page": size,
                "previous_page": page - 1 if page > 1 else None,
                "next_page": page + 1 if page < last else None,
                "last_page": last,
                "total_entries": len(found),
            }
        },
    }
