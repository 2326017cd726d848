"""GitHub's REST API as far as the product uses it. Everything is held against GitHub's schema."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from bot.demo.forge.bodies import Json
from bot.demo.forge.faults import Fault, Faults
from bot.demo.forge.operations import OPERATIONS
from bot.demo.forge.tokens import credential
from bot.demo.forge.world import ApiError, Call, World
from bot.demo.openapi import Operation, Schema, Violation

PREFIX = "/api/v3"
"""As on GitHub Enterprise Server, so that pages, git and API share one address."""
DOCS = "https://docs.github.com/rest"
PER_PAGE = 30
PER_PAGE_MAX = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: object = None
    headers: Mapping[str, str] | None = None


class Rest:
    """Serves the API below `PREFIX` and collects what breaks GitHub's description."""

    def __init__(self, world: World, schema: Schema, faults: Faults, public_url: str) -> None:
        self._world = world
        self._schema = schema
        self._faults = faults
        self._public_url = public_url
        self.violations: list[Violation] = []
        self.requests: list[tuple[str, str, int]] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        path = request.path.removeprefix(PREFIX)
        fault = self._faults.take(request.method, path)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
        operation = self._schema.operation(request.method, path)
        if operation is None:
            self._object(f"{request.method} {path}", "this operation is not in the stand-in")
            answer = _refused(501, "Not implemented by the stand-in")
        elif fault is not None and fault.status is not None:
            answer = self._planned(fault)
        else:
            answer = await self._answer(operation, request, path)
            if fault is not None and fault.lose and request.transport is not None:
                request.transport.abort()
        self.requests.append((request.method, path, answer.status))
        return self._sent(answer)

    async def _answer(self, operation: Operation, request: web.Request, path: str) -> Answer:
        try:
            body = await request.json() if request.can_read_body else None
        except ValueError:
            return _refused(400, "Problems parsing JSON")
        where = f"{request.method} {path}"
        faults = self._schema.request_faults(operation, request.query, body)
        for text in faults:
            self._object(where, f"request: {text}")
        if faults:
            answer = _refused(422, "Invalid request.\n\n" + "\n".join(faults))
        else:
            answer = await self._done(operation, request, path, body)
        answer = self._localised(answer)
        for text in self._schema.response_faults(operation, answer.status, answer.body):
            self._object(where, f"answer {answer.status}: {text}")
        return answer

    async def _done(
        self, operation: Operation, request: web.Request, path: str, body: object
    ) -> Answer:
        match = operation.pattern.fullmatch(path)
        call = Call(
            world=self._world,
            path=match.groups() if match else (),
            query=request.query,
            body=body if isinstance(body, dict) else {},
            bearer=credential(request.headers.get("Authorization", "")),
        )
        try:
            status, result = await OPERATIONS[operation.name](call)
        except ApiError as error:
            return _refused(error.status, error.message, error.errors)
        if isinstance(result, list):
            return self._paged(request, path, result)
        return Answer(status, result)

    def _paged(self, request: web.Request, path: str, rows: list[Json]) -> Answer:
        size = min(int(request.query.get("per_page", PER_PAGE)), PER_PAGE_MAX)
        page = int(request.query.get("page", 1))
        shown = rows[(page - 1) * size : page * size]
        if page * size >= len(rows):
            return Answer(200, shown)
        query = request.rel_url.update_query(page=page + 1).query_string
        link = f'<{self._public_url}{PREFIX}{path}?{query}>; rel="next"'
        return Answer(200, shown, {"Link": link})

    def _localised(self, answer: Answer) -> Answer:
        text = json.dumps(answer.body)
        text = text.replace("https://api.github.com", f"{self._public_url}{PREFIX}")
        text = text.replace("https://github.com", self._public_url)
        return Answer(answer.status, json.loads(text), answer.headers)

    def _planned(self, fault: Fault) -> Answer:
        planned = _refused(fault.status or 500, "Planned fault")
        return Answer(planned.status, fault.body or planned.body, fault.headers)

    def _object(self, where: str, fault: str) -> None:
        self.violations.append(Violation(where, fault))

    def _sent(self, answer: Answer) -> web.Response:
        now = int(self._world.tokens.now())
        headers = {
            "X-GitHub-Request-Id": uuid.uuid4().hex[:20],
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": "4999",
            "X-RateLimit-Reset": str(now + 3600),
            "X-RateLimit-Resource": "core",
        } | dict(answer.headers or {})
        if answer.body is None:
            return web.Response(status=answer.status, headers=headers)
        return web.json_response(answer.body, status=answer.status, headers=headers)


def _refused(status: int, message: str, errors: list[Json] | None = None) -> Answer:
    body: dict[str, Any] = {"message": message, "documentation_url": DOCS, "status": str(status)}
    return Answer(status, body | ({"errors": errors} if errors else {}))
