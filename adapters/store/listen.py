"""Wake-ups from other replicas: PostgreSQL's LISTEN, on a connection of its own."""

import asyncio
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import sqlalchemy as sa
import structlog

from adapters.store.database import Database
from adapters.store.transaction import CHANNEL

log = structlog.get_logger(__name__)

_AGAIN_S = 1.0
_ALIVE_S = 10.0


class Listener:
    """Rings our bells when another replica's transaction says so.

    Polling is the truth and this is the speed: while the connection is away, and behind a pooler
    that gives sessions away, wake-ups are late and never lost.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Listen, and connect again whenever the connection is lost, until cancelled."""
        is_down = False
        while True:
            try:
                await self._listen()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                if not is_down:
                    log.warning("listener.lost", error=f"{type(error).__name__}: {error}")
                is_down = True
                await asyncio.sleep(_AGAIN_S)
            else:
                is_down = False

    async def _listen(self) -> None:
        own = {
            "timeout": _ALIVE_S,
            "command_timeout": _ALIVE_S,
            "server_settings": {"application_name": self._database.session},
        }
        connection = await asyncpg.connect(**{**_options(self._database.url), **own})
        try:
            gone = asyncio.Event()
            connection.add_termination_listener(lambda _: gone.set())
            await connection.add_listener(CHANNEL, self._heard)
            self._database.is_listening = True
            self._database.bells.ring_all()  # What was said while we were away.
            while not gone.is_set():
                await connection.execute("SELECT 1")
                try:
                    async with asyncio.timeout(_ALIVE_S):
                        await gone.wait()
                except TimeoutError:
                    continue
        finally:
            self._database.is_listening = False
            await connection.close(timeout=_ALIVE_S)

    def _heard(self, _connection: object, _pid: int, _channel: str, name: object) -> None:
        self._database.bells.ring(str(name))


def _options(url: sa.URL) -> dict[str, Any]:
    """Return what the pool gives asyncpg for this URL, without what SQLAlchemy keeps to itself."""
    _, options = url.get_dialect()().create_connect_args(url)
    return {name: value for name, value in options.items() if not name.startswith("prepared_")}
