"""The stand-in code host: one server for API, git and pages."""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from bot.demo.forge.bodies import Bodies
from bot.demo.forge.faults import Fault, Faults
from bot.demo.forge.git_http import serve_git
from bot.demo.forge.pages import Pages
from bot.demo.forge.records import CheckRecord, CommentRecord, PullRecord, Records
from bot.demo.forge.repositories import Commit, Repositories
from bot.demo.forge.rest import PREFIX, Rest
from bot.demo.forge.schema import github
from bot.demo.forge.tokens import Tokens
from bot.demo.forge.world import World
from bot.demo.openapi import Violation


class StandInForge:
    """A code host that plays GitHub over real git repositories.

    Use it as an async context manager; `url` and `port` are known once it is entered. What it
    keeps lies in `root` and outlives the process, except tokens.
    """

    def __init__(
        self,
        root: Path,
        *,
        app_id: str,
        app_public_key: str,
        host: str = "127.0.0.1",
        port: int = 0,
        public_url: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Describe the server; nothing is opened yet.

        Args:
            root: Folder for the repositories and records; made if it is not there.
            app_id: Number of the App that may ask for tokens, in digits.
            app_public_key: PEM of its public key.
            host: Address to listen on. Containers reach the Docker bridge's address.
            port: 0 takes a free one.
            public_url: What callers use instead of `http://{host}:{port}`; every URL in an answer
                begins with it, because PyGithub insists on the host that it asked.
            now: Seconds of the epoch.
        """
        self._address = (host, port)
        self._public_url = public_url
        self._faults = Faults()
        self._repositories = Repositories(root.resolve())
        self._world = World(
            repositories=self._repositories,
            records=Records.read(root / "records.json"),
            tokens=Tokens(app_id=app_id, app_public_key=app_public_key, now=now),
            bodies=Bodies(github()),
            making=asyncio.Lock(),
        )
        self.url = ""
        self.port = port

    @property
    def api_url(self) -> str:
        """What an API client is given as its base URL."""
        return f"{self.url}{PREFIX}"

    @property
    def violations(self) -> list[Violation]:
        """Where a request or an answer broke GitHub's own description of its API.

        A test asserts at its end that there is none.
        """
        return self._rest.violations

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path below the API and status of every API request so far."""
        return self._rest.requests

    async def __aenter__(self) -> Self:
        """Listen."""
        self._repositories.root.mkdir(parents=True, exist_ok=True)
        listening = socket.create_server(self._address)
        self.port = listening.getsockname()[1]
        self.url = self._public_url or f"http://{self._address[0]}:{self.port}"
        self._rest = Rest(self._world, github(), self._faults, self.url)
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection and stop listening."""
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application()
        pages = Pages(self._world)
        app.router.add_route("*", PREFIX + "/{path:.*}", self._rest.serve)
        app.router.add_route("*", "/{owner}/{name}.git/{path:.*}", self._git)
        app.add_routes(pages.routes())
        return app

    async def _git(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.take(request.method, request.path)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.status is not None:
                return web.Response(status=fault.status, headers=fault.headers)
        answer = await serve_git(request, self._repositories, self._world.tokens)
        if fault is not None and fault.lose and request.transport is not None:
            request.transport.abort()
        return answer

    def fail(
        self,
        method: str,
        path: str,
        status: int,
        *,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> None:
        """Let the next `times` requests fail with `status`, undone.

        Args:
            method: As in HTTP, or `*`.
            status: Of the answer.
            times: How many requests.
            headers: Of the answer, on top of the usual ones.
            path: Regular expression searched in the path: `/repos/acme/web/pulls$` for the API
                (without its prefix), `/acme/web.git/git-receive-pack` for git.
            body: JSON of the answer; the default is an error in GitHub's form.
        """
        self._faults.add(
            Fault(
                method=method,
                path=re.compile(path),
                times=times,
                status=status,
                headers=headers or {},
                body=body,
            )
        )

    def slow(self, method: str, path: str, delay_s: float, *, times: int = 1) -> None:
        """Let the next `times` requests wait before they are served. See `fail`."""
        fault = Fault(method=method, path=re.compile(path), times=times, delay_s=delay_s)
        self._faults.add(fault)

    def lose_answer(self, method: str, path: str, *, times: int = 1) -> None:
        """Serve the next `times` requests and cut the connection instead of answering."""
        self._faults.add(Fault(method=method, path=re.compile(path), times=times, lose=True))

    async def create_repository(
        self,
        name: str,
        *,
        from_tree: Path | None = None,
        files: Mapping[str, str] | None = None,
        branch: str = "main",
    ) -> str:
        """Make `owner/name` with one commit on `branch` and return the commit's id.

        A repository that is there already is left as it is.

        Args:
            name: `owner/name`.
            branch: Its default branch.
            from_tree: Folder whose content is the first commit, ignored files included.
            files: Path and text of files on top of it.
        """
        return await self._repositories.create(
            name, tree=from_tree, files=files or {}, branch=branch
        )

    async def refs(self, name: str) -> dict[str, str]:
        """Return every ref of a repository with the commit that it points to."""
        return await self._repositories.refs(name)

    async def git(self, name: str, *arguments: str) -> str:
        """Run git in a repository and return what it printed."""
        return await self._repositories.run(name, *arguments)

    async def commits(self, name: str, span: str) -> list[Commit]:
        """Return the commits of `span` (`main`, `main..topic`), newest first."""
        return await self._repositories.commits(name, span)

    async def pulls(self, name: str) -> list[PullRecord]:
        """Return every pull request of a repository as it is now, newest first."""
        return [await self._world.follow(row) for row in self._world.records.pulls_of(name)]

    def comments(self, name: str, number: int) -> list[CommentRecord]:
        """Return the comments below a pull request, oldest first."""
        return self._world.records.comments_of(name, number)

    def checks(self, name: str, sha: str) -> list[CheckRecord]:
        """Return the checks of a commit, oldest first."""
        return self._world.records.checks_of(name, sha)

    async def merge(self, name: str, number: int) -> str:
        """Merge a pull request as a person would, and return the merge commit's id."""
        row = await self._pull(name, number)
        tree = await self._repositories.run(
            name, "merge-tree", "--write-tree", row.base, row.head_sha
        )
        base = await self._repositories.run(name, "rev-parse", f"refs/heads/{row.base}")
        sha = await self._repositories.commit(
            name,
            tree,
            branch=row.base,
            message=f"Merge pull request #{number}",
            parents=(base, row.head_sha),
        )
        await self._world.follow(row)
        return sha

    async def close(self, name: str, number: int) -> None:
        """Close a pull request unmerged, as a person would."""
        row = await self._pull(name, number)
        row.state, row.closed_at = "closed", self._world.stamp()
        self._world.records.save()

    async def _pull(self, name: str, number: int) -> PullRecord:
        row = self._world.records.find_pull(name, number)
        if row is None:
            raise LookupError(f"{name} has no pull request {number}")
        return await self._world.follow(row)
