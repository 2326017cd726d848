"""Pages of the stand-in for people: repositories, branches, commits, pull requests."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from bot.demo.forge.repositories import GitError
from bot.demo.forge.world import World

HERE = Path(__file__).parent
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
COMMENT = re.compile(r"^<!--.*?-->$", re.DOTALL | re.MULTILINE)
"""A comment that stands by itself, as ours at the end of a pull request's description."""
LINES_MAX = 3000
"""Lines of a change that one page shows; the rest is counted."""


class Pages:
    """Renders the pages from what git and the records hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["markdown"] = _markdown
        self._templates.filters["day"] = _day

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Return the paths of the pages."""
        return [
            web.get("/", self._index),
            web.get("/forge.css", self._style),
            web.get("/{owner}/{name}", self._or_nothing(self._repository)),
            web.get("/{owner}/{name}/tree/{branch:.+}", self._or_nothing(self._repository)),
            web.get("/{owner}/{name}/commit/{sha:[0-9a-f]{7,40}}", self._or_nothing(self._commit)),
            web.get("/{owner}/{name}/pull/{number:[0-9]+}", self._or_nothing(self._pull)),
            web.get("/{path:.*}", self._or_nothing(self._unknown)),
        ]

    def _or_nothing(
        self, page: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return `page`; where it finds nothing, a page says so."""

        async def shown(request: web.Request) -> web.Response:
            try:
                return await page(request)
            except web.HTTPNotFound as missing:
                answer = self._page("nothing.html", sentence=missing.text)
                answer.set_status(404)
                return answer

        return shown

    async def _unknown(self, _request: web.Request) -> web.Response:
        raise web.HTTPNotFound(text="There is nothing at this address.")

    async def _index(self, _request: web.Request) -> web.Response:
        names = self._world.repositories.names()
        return self._page("index.html", names=names)

    async def _style(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(HERE / "forge.css")

    async def _repository(self, request: web.Request) -> web.Response:
        name = self._name(request)
        git = self._world.repositories
        default = await git.default_branch(name)
        shown = request.match_info.get("branch", default)
        if await git.find_head(name, shown) is None:
            raise web.HTTPNotFound(text=f"{name} has no branch {shown}.\n")
        pulls = [await self._world.follow(row) for row in self._world.records.pulls_of(name)]
        refs = await git.refs(name)
        branches = [
            ref.removeprefix("refs/heads/") for ref in refs if ref.startswith("refs/heads/")
        ]
        branches.sort(key=lambda branch: (branch != default, branch))
        commits = await git.commits(name, f"refs/heads/{shown}", limit=30)
        return self._page(
            "repository.html",
            name=name,
            default=default,
            shown=shown,
            branches=branches,
            commits=commits,
            pulls=pulls,
        )

    async def _commit(self, request: web.Request) -> web.Response:
        name = self._name(request)
        git = self._world.repositories
        try:
            commit = (await git.commits(name, request.match_info["sha"], limit=1))[0]
        except GitError as error:
            raise web.HTTPNotFound(text=f"{name} has no such commit.\n") from error
        parent = commit.parents[0] if commit.parents else await git.empty_tree(name)
        files = await git.diff(name, f"{parent}..{commit.sha}")
        checks = self._world.records.checks_of(name, commit.sha)
        return self._page(
            "commit.html", name=name, commit=commit, files=files, checks=checks, lines_max=LINES_MAX
        )

    async def _pull(self, request: web.Request) -> web.Response:
        name = self._name(request)
        records = self._world.records
        pull = records.find_pull(name, int(request.match_info["number"]))
        if pull is None:
            raise web.HTTPNotFound(text=f"{name} has no such pull request.\n")
        await self._world.follow(pull)
        return self._page(
            "pull.html",
            name=name,
            pull=pull,
            state="merged"
            if pull.merged_at
            else "draft"
            if pull.draft and pull.state == "open"
            else pull.state,
            size=await self._world.size(pull),
            commits=(await self._world.repositories.commits(name, pull.span))[::-1],
            files=await self._world.repositories.diff(name, pull.change),
            checks=records.checks_of(name, pull.head_sha),
            comments=records.comments_of(name, pull.number),
            lines_max=LINES_MAX,
        )

    def _name(self, request: web.Request) -> str:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        if not self._world.repositories.exists(name):
            raise web.HTTPNotFound(text=f"There is no repository {name}.\n")
        return name

    def _page(self, template: str, **facts: object) -> web.Response:
        html = self._templates.get_template(template).render(**facts)
        return web.Response(text=html, content_type="text/html", headers=SECURITY)


def _markdown(text: str) -> Markup:
    """Turn Markdown from outside into HTML; HTML inside it stays text, `javascript:` no link.

    Comments are left out, as at the real code host.
    """
    text = COMMENT.sub("", text)
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return Markup(parser.disable("image").render(text))  # noqa: S704  escaped by the parser


def _day(stamp: str) -> str:
    return datetime.fromisoformat(stamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
