"""The web server's application: one mounted app per kind of caller.

/api/v1   programs and scripts of our pages: cookie, or the local administrator
/…        whatever is mounted for machines: its own credentials, none of our middlewares
/         people: cookie

All of that under the pages' own name. What comes to a workspace's is served by `own`, what comes to
one of its ports by `preview`.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from adapters.web import (
    api,
    browse,
    chats,
    entry,
    handover,
    keeping,
    pages,
    preview_api,
    recordings,
)
from adapters.web import previews as previews_pages
from adapters.web.auth import Door
from adapters.web.files import mount_files
from adapters.web.hosts import ByHost, Hosts
from adapters.web.live import Deltas, Live
from adapters.web.own import own_app
from adapters.web.preview.site import PreviewSite
from adapters.web.problems import HANDLERS, SignInNeededError
from adapters.web.shield import HEADERS, Shield, origin_of
from core.access import Person
from core.ports.commands import Commands, Doors, SignIn
from core.ports.previews import Previews


class Served(Starlette):
    """An app with streams that do not end by themselves."""

    def __init__(
        self,
        live: Live,
        routes: Sequence[BaseRoute],
        middleware: Sequence[Middleware] = (),
        sites: Sequence[PreviewSite] = (),
    ) -> None:
        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncIterator[None]:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(live.running())
                for site in sites:
                    await stack.enter_async_context(site.running())
                yield

        super().__init__(routes=routes, lifespan=lifespan, middleware=middleware)
        self._live = live

    def end_streams(self) -> None:
        """End every stream. Call it before the server is told to stop: it waits for them."""
        self._live.end_streams()


def web_app(
    *,
    commands: Commands,
    sign_in: SignIn,
    doors: Doors,
    previews: Previews,
    deltas: Deltas | None,
    public_url: str,
    domain: str,
    xterm: Path | None,
    player: Path | None,
    mounts: Mapping[str, ASGIApp],
) -> Served:
    """Return everything that this installation serves by TCP.

    Live pages need the lifespan protocol; see `Served.end_streams` for stopping.

    Args:
        commands: What people can ask for.
        sign_in: Who is behind a browser.
        doors: Ways into workspaces.
        previews: What listens in workspaces.
        deltas: Text as a coding agent writes it; None where nobody can tell.
        public_url: Where people reach the pages. Its origin is the only one that may change
            anything; under https the cookie is `__Host-`.
        domain: What the names of workspaces end in: `ws-{id}.{domain}`, and those of their
            ports, with the scheme and the port of `public_url`. Empty where they have none.
        xterm: Folder of xterm.js; without it the terminals' page says what is missing.
        player: Folder of asciinema-player; without it a recording's page says what is missing.
        mounts: Apps for machines by path, such as `/llm`.
    """
    hosts = Hosts(public_url=public_url, domain=domain)
    live = Live(commands, deltas, can_enter=bool(domain))
    door = Door(sign_in, is_https=public_url.startswith("https:"))
    origin = origin_of(public_url)
    site = PreviewSite(previews, hosts)
    routes: list[BaseRoute] = [Mount(path, app) for path, app in mounts.items()]
    routes += [
        Mount(
            "/api/v1",
            _api(
                commands,
                live,
                previews,
                who=door.person,
                surface="web",
                origin=origin,
                public_url=public_url,
            ),
        ),
        Mount(
            "/",
            _pages(commands, live, previews, door=door, doors=doors, hosts=hosts, player=player),
        ),
    ]
    by_host = Middleware(
        ByHost,
        hosts=hosts,
        places=own_app(
            commands=commands,
            doors=doors,
            hosts=hosts,
            xterm=xterm,
            live=live,
            more=[chats.router],
        ),
        previews=site,
        anyhow=(*mounts, "/static"),
    )
    return Served(live, routes, [by_host], [site])


def api_app(
    commands: Commands,
    *,
    actor: Person,
    previews: Previews,
    deltas: Deltas | None = None,
    public_url: str = "",
) -> Served:
    """Return the JSON API, under `/api/v1`, for whoever may open the unix socket: `actor`."""

    async def who(_request: HTTPConnection) -> Person:
        return actor

    live = Live(commands, deltas)
    app = _api(commands, live, previews, who=who, surface="cli", origin=None, public_url=public_url)
    return Served(live, [Mount("/api/v1", app)])


def _api(
    commands: Commands,
    live: Live,
    previews: Previews,
    *,
    who: Callable[[HTTPConnection], Awaitable[Person]],
    surface: str,
    origin: str | None,
    public_url: str,
) -> FastAPI:
    app = _app(
        commands,
        live,
        previews,
        who=who,
        surface=surface,
        origin=origin,
        public_url=public_url,
        title="Samovar",
        version="1",
    )
    app.include_router(api.router)
    app.include_router(recordings.api)
    app.include_router(preview_api.router)
    app.include_router(keeping.api)
    return app


def _pages(
    commands: Commands,
    live: Live,
    previews: Previews,
    *,
    door: Door,
    doors: Doors,
    hosts: Hosts,
    player: Path | None,
) -> FastAPI:
    app = _app(
        commands,
        live,
        previews,
        who=door.person,
        surface="web",
        origin=origin_of(hosts.public_url),
        public_url=hosts.public_url,
        headers=_leading_to(hosts),
        openapi_url=None,
    )
    app.state.door, app.state.doors, app.state.hosts = door, doors, hosts
    app.add_exception_handler(SignInNeededError, pages.on_stranger)
    app.include_router(pages.router)
    app.include_router(keeping.pages)
    app.include_router(browse.router)
    app.include_router(recordings.pages)
    app.include_router(entry.router)
    app.include_router(previews_pages.router)
    app.include_router(handover.router)
    app.state.has_player = player is not None
    mount_files(app, player=player)
    return app


def _leading_to(hosts: Hosts) -> Mapping[str, str]:
    """Let forms of the pages lead to workspaces: browsers hold redirects to the form's policy."""
    name = "Content-Security-Policy"
    to = f"form-action 'self' {hosts.anywhere}".strip()
    return {**HEADERS, name: HEADERS[name].replace("form-action 'self'", to)}


def _app(
    commands: Commands,
    live: Live,
    previews: Previews,
    *,
    who: Callable[[HTTPConnection], Awaitable[Person]],
    surface: str,
    origin: str | None,
    public_url: str,
    headers: Mapping[str, str] = HEADERS,
    **settings: str | None,
) -> FastAPI:
    app = FastAPI(
        default_response_class=_AsciiJson,
        docs_url=None,
        redoc_url=None,
        middleware=[Middleware(Shield, origin=origin, headers=headers)],
        exception_handlers={**HANDLERS},
        **settings,  # type: ignore[arg-type]  # title, version and openapi_url are texts
    )
    app.state.commands, app.state.live, app.state.previews = commands, live, previews
    app.state.who, app.state.surface, app.state.public_url = who, surface, public_url
    return app


class _AsciiJson(JSONResponse):
    """JSON in ASCII: half a surrogate pair in a stranger's words cannot be said in UTF-8."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
