"""The web server's application on a real uvicorn, with commands in memory."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from adapters.web.app import Served, api_app, web_app
from core.access import Person
from tests.fakes.commands import FakeCommands, FakeSignIn, a_person
from tests.fakes.previews import FakePreviews


def xterm_folder() -> Path | None:
    """Return where xterm.js is, as the tests' door says."""
    named = os.environ.get("SAMOVAR_XTERM")
    return Path(named) if named else None


def player_folder() -> Path | None:
    """Return where asciinema-player is, as the tests' door says."""
    named = os.environ.get("SAMOVAR_PLAYER")
    return Path(named) if named else None


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's own is not typed
        yield


@asynccontextmanager
async def serving(app: Served, *, patience_s: int = 1, **where: object) -> AsyncIterator[None]:
    """Serve `app` with its lifespan, as the real process does."""
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="on",
        ws="websockets-sansio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=patience_s,
        **where,  # type: ignore[arg-type]  # host and port, fd or uds
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        try:
            yield
        finally:
            app.end_streams()
            server.should_exit = True
            await task


@dataclass
class Site:
    """A running installation of pages, all in memory."""

    url: str
    commands: FakeCommands
    sign_in: FakeSignIn
    person: Person
    cookie: str
    previews: FakePreviews

    @property
    def cookies(self) -> dict[str, str]:
        return {"samovar": self.cookie}

    @property
    def origin(self) -> dict[str, str]:
        return {"Origin": self.url}

    def own(self, workspace: str) -> str:
        """The origin of a workspace."""
        return self.url.replace("127.0.0.1", f"ws-{workspace}.localhost")

    def preview(self, workspace: str, port: int) -> str:
        """The origin of a port of a workspace."""
        return self.own(f"{workspace}--{port}")


@dataclass
class Setup:
    commands: FakeCommands = field(default_factory=FakeCommands)
    sign_in: FakeSignIn = field(default_factory=FakeSignIn)
    person: Person = field(default_factory=a_person)
    previews: FakePreviews = field(default_factory=FakePreviews)
    xterm: Path | None = field(default_factory=xterm_folder)
    player: Path | None = field(default_factory=player_folder)
    domain: str = "localhost"
    patience_s: int = 1


@asynccontextmanager
async def a_site(
    setup: Setup | None = None, mounts: Mapping[str, ASGIApp] | None = None, port: int = 0
) -> AsyncIterator[Site]:
    """Serve the pages on a free port; the address is known before the app is made."""
    setup = setup or Setup()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = web_app(
            commands=setup.commands,
            sign_in=setup.sign_in,
            doors=setup.commands.doors,
            previews=setup.previews,
            deltas=setup.commands.deltas,
            public_url=url,
            domain=setup.domain,
            xterm=setup.xterm,
            player=setup.player,
            mounts=mounts or {},
        )
        cookie = setup.sign_in.signed_in(setup.person)
        async with serving(app, patience_s=setup.patience_s, fd=listener.fileno()):
            try:
                async with setup.previews.connecting():
                    yield Site(
                        url,
                        setup.commands,
                        setup.sign_in,
                        setup.person,
                        cookie,
                        setup.previews,
                    )
            finally:
                await setup.commands.end_terminals()


@asynccontextmanager
async def a_socket(
    folder: Path,
    commands: FakeCommands,
    person: Person,
    previews: FakePreviews | None = None,
) -> AsyncIterator[Path]:
    """Serve the JSON API on `folder/api.sock`."""
    path = folder / "api.sock"
    previews = previews or FakePreviews()
    app = api_app(commands, actor=person, previews=previews, deltas=commands.deltas)
    async with serving(app, uds=str(path)):
        yield path
