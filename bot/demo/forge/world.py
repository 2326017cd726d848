"""What the operations of the API work on, and what one request to them is."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bot.demo.forge.bodies import Bodies, Json, Size
from bot.demo.forge.records import PullRecord, Records
from bot.demo.forge.repositories import Repositories
from bot.demo.forge.tokens import Level, Tokens


class ApiError(Exception):
    """An answer that refuses, in GitHub's words."""

    def __init__(self, status: int, message: str, errors: list[Json] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that the operations work on."""

    repositories: Repositories
    records: Records
    tokens: Tokens
    bodies: Bodies
    making: asyncio.Lock
    """Held while a pull request is made, so that a branch never gets two."""
    measured: dict[str, Size] = field(default_factory=dict)

    def stamp(self) -> str:
        """Return the time as GitHub writes it."""
        return datetime.fromtimestamp(self.tokens.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def follow(self, pull: PullRecord) -> PullRecord:
        """Let an open pull request follow its branches, as GitHub does after each push.

        It counts as merged when its base has moved and holds its head.
        """
        if pull.state == "closed":
            return pull
        name = pull.repository
        head = await self.repositories.find_head(name, pull.head)
        base = await self.repositories.find_head(name, pull.base) or pull.base_sha
        pull.head_sha = head or pull.head_sha
        if (
            base != pull.base_sha
            and await self.repositories.count(name, f"{base}..{pull.head_sha}") == 0
        ):
            pull.state, pull.merged_sha = "closed", base
            pull.closed_at = pull.merged_at = self.stamp()
        self.records.save()
        return pull

    async def size(self, pull: PullRecord) -> Size:
        """Measure a pull request: once for each pair of commits, since these never change."""
        key = f"{pull.repository} {pull.change}"
        if key not in self.measured:
            files, commits = await asyncio.gather(
                self.repositories.diff(pull.repository, pull.change),
                self.repositories.count(pull.repository, pull.span),
            )
            plus, minus = sum(f.additions for f in files), sum(f.deletions for f in files)
            self.measured[key] = Size(
                commits=commits, additions=plus, deletions=minus, changed_files=len(files)
            )
        return self.measured[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: the variable parts of its path, its query, body and bearer."""

    world: World
    path: tuple[str, ...]
    query: Mapping[str, str]
    body: Json
    bearer: str

    @property
    def name(self) -> str:
        """The repository's `owner/name`."""
        return f"{self.path[0]}/{self.path[1]}"

    def need_app(self) -> None:
        """Refuse whoever is not the App itself."""
        if not self.world.tokens.is_app(self.bearer):
            raise ApiError(401, "A JSON web token could not be decoded")

    def need(self, permission: str, level: Level) -> None:
        """Refuse a token that does not open this repository or lacks a permission."""
        token = self.world.tokens.find(self.bearer)
        if token is None:
            raise ApiError(401, "Bad credentials")
        if self.name not in token.repositories or not self.world.repositories.exists(self.name):
            raise ApiError(404, "Not Found")
        if not token.may(permission, level):
            raise ApiError(403, "Resource not accessible by integration")

    async def pull(self) -> PullRecord:
        """Return the pull request that the path names."""
        found = self.world.records.find_pull(self.name, int(self.path[2]))
        if found is None:
            raise ApiError(404, "Not Found")
        return await self.world.follow(found)

    async def pull_body(self, pull: PullRecord, operation: str) -> Json:
        """Return a pull request as `operation` answers it."""
        branch = await self.world.repositories.default_branch(self.name)
        size = await self.world.size(pull)
        comments = len(self.world.records.comments_of(self.name, pull.number))
        return self.world.bodies.pull(
            pull, size, comments=comments, operation=operation, branch=branch
        )
