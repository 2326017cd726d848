"""The process: start, serve, look after, drain, stop."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
import uvloop
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from starlette.types import ASGIApp

from bot import setup
from bot.commands import BotCommands
from bot.config import Config, load
from bot.logs import set_up_logs
from bot.state import state_dir
from bot.wiring import SWEEPS, Parts, migrated, wire
from core.access import Person
from core.errors import ConfigError
from core.ids import TaskId
from core.ports.forge import Pull
from core.ports.store import Wake
from core.task import Task
from core.viewing import FRAME_BYTES_MAX

log = structlog.get_logger(__name__)

SHUTDOWN_S = 5
PONG_S_MAX = None
"""An answer to a ping waits behind what is taken slowly, for as long as that lasts. Who is gone is
found by the links' heartbeats, the viewers' beats, and by TCP, which wants our pings acknowledged;
they also keep proxies from ending what is idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running installation, for whoever started it."""

    parts: Parts
    local: Person
    stopping: asyncio.Event

    @property
    def commands(self) -> BotCommands:
        """What people can ask for."""
        return self.parts.commands

    async def pull(self, task_id: TaskId) -> Pull:
        """Return the pull request of a task as the code host has it."""
        task = await self.parts.store.get(Task, task_id)
        project = await self.commands.project(task.project)
        return await self.parts.forge.pull(project.repo, task.pull_number)

    async def ended(self) -> None:
        """Wait until somebody ends the process."""
        await self.stopping.wait()


def serve(config_path: Path | None) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: Something must be set or installed first; the message says what.
    """
    set_up_logs()
    config = load(config_path)
    with setup.in_use(state_dir()):
        outfit = setup.ensure(
            setup.RUN if config.local.enabled else (),
            state=state_dir(),
            install=False,
            progress=lambda line: log.info("setup.progress", line=line),
        )
        uvloop.run(_serve(config, outfit))


async def _serve(config: Config, outfit: setup.Outfit) -> None:
    async with running(config, outfit) as samovar:
        link = await samovar.commands.sign_in_link(samovar.local)
        log.info("service.started", page=f"{config.public_url}{link}")
        await samovar.ended()


def migrate(config_path: Path | None) -> list[str]:
    """Bring the records up to the newest schema; return the names of what was applied."""
    config = load(config_path)
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return asyncio.run(migrated(config))


@asynccontextmanager
async def running(config: Config, outfit: setup.Outfit) -> AsyncGenerator[Running]:
    """Start everything; on leaving, finish the steps at hand and stop."""
    config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    await migrated(config)
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(wire(config, outfit))
        local = await parts.people.local(_login())
        apps = [parts.app, parts.local_app(local)]
        servers = [
            _tcp_server(config, apps[0]),
            _unix_server(config.state / "api.sock", apps[1]),
        ]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        work = group.create_task(_work(parts, config), name="work")
        serving = [group.create_task(_serve_until(server), name="server") for server in servers]
        stack.callback(_on_signals(stopping))
        try:
            await _all_started(servers, serving)
            yield Running(parts=parts, local=local, stopping=stopping)
        finally:
            for app, server in zip(apps, servers, strict=True):
                app.end_streams()
                server.should_exit = True
            await asyncio.wait(serving, timeout=SHUTDOWN_S * 2)
            work.cancel()


def _login() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "admin"


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # uvicorn's own is not typed
        yield


def _tcp_server(config: Config, app: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            host=config.server.host,
            port=config.server.port,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=1 << 24,
            ws_ping_timeout=PONG_S_MAX,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )


def _unix_server(path: Path, app: ASGIApp) -> _Server:
    path.unlink(missing_ok=True)
    return _Server(
        uvicorn.Config(
            app,
            uds=str(path),
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=FRAME_BYTES_MAX,
            ws_ping_timeout=PONG_S_MAX,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )


async def _serve_until(server: _Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn's way of saying that it could not listen
        raise ConfigError(
            f"Port {server.config.port} on {server.config.host} cannot be used: is another "
            "Samovar running? Set [server] port to a free one."
        ) from error


async def _all_started(servers: Sequence[_Server], serving: Sequence[asyncio.Task[None]]) -> None:
    while not all(server.started for server in servers):
        if any(task.done() for task in serving):
            return
        await asyncio.sleep(0.01)


def _on_signals(stopping: asyncio.Event) -> Callable[[], None]:
    """Let SIGTERM and Ctrl-C end the process in order; return how to undo that."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stopping.set)

    def undo() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    return undo


async def _work(parts: Parts, config: Config) -> None:
    """Run the engine, the link and the clockwork until cancelled."""
    scheduler = _clockwork(parts, config)
    scheduler.start()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(parts.link.run(), name="link")
            group.create_task(parts.engine.run(), name="engine")
            group.create_task(parts.pulse.run(), name="pulse")
            if parts.local is not None:
                group.create_task(parts.local.run(), name="local")
    finally:
        scheduler.shutdown(wait=False)


def _clockwork(parts: Parts, config: Config) -> AsyncIOScheduler:
    """Return the periodic jobs. Each only makes objects due, so a double fire is harmless."""
    scheduler = AsyncIOScheduler(
        timezone="UTC",
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    for kind in SWEEPS:
        scheduler.add_job(
            parts.store.commit,
            "interval",
            args=[Wake(kind, "all")],
            seconds=config.clocks.sweep_s,
            id=kind,
        )
    scheduler.add_listener(_job_failed, EVENT_JOB_ERROR | EVENT_JOB_MISSED)
    return scheduler


def _job_failed(event: JobExecutionEvent) -> None:
    log.warning("clockwork.job_failed", job=event.job_id, error=repr(event.exception))
