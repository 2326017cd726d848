"""Calls between the processes of a history: pickled, numbered, both ways over one stream."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from itertools import count
from typing import cast

from agent.errors import NodeError
from core.errors import AppError, OutsideError

Serve = Callable[[str, tuple[object, ...]], Awaitable[object]]
BYTES_MAX = 2**26


class Peer:
    """One end of a stream; `serve` answers what the other end calls."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, serve: Serve
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._serve = serve
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[object]] = {}
        self._is_over = False

    async def run(self) -> None:
        """Answer and hear answers until the other end is gone."""
        try:
            async with asyncio.TaskGroup() as group:
                while (heard := await self._receive()) is not None:
                    number, is_call, body = heard
                    if is_call:
                        group.create_task(self._answer(number, *body))
                    else:
                        self._hear(number, *body)
                for task in group._tasks:
                    task.cancel()
        finally:
            self._is_over = True
            self._writer.close()
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError("the other end is gone"))
                    waiting.exception()

    async def call(self, name: str, /, *values: object) -> object:
        """Call the other end; raises what it raised, `ConnectionError` when it is gone."""
        if self._is_over:
            raise ConnectionError("the other end is gone")
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(number, True, (name, values))
            return await answer
        finally:
            del self._asked[number]

    def _hear(self, number: int, is_good: bool, value: object) -> None:
        waiting = self._asked.get(number)
        if waiting is None or waiting.done():
            return
        if is_good:
            waiting.set_result(value)
        else:
            kind, values = cast("tuple[type[Exception], tuple[object, ...]]", value)
            waiting.set_exception(kind(*values))

    async def _answer(self, number: int, name: str, values: tuple[object, ...]) -> None:
        try:
            body = (True, await self._serve(name, values))
        except Exception as error:  # noqa: BLE001  raised again at the other end
            body = (False, _portable(error))
        if not self._is_over:
            self._send(number, False, body)

    def _send(self, *message: object) -> None:
        text = pickle.dumps(message)
        self._writer.write(len(text).to_bytes(4, "big") + text)

    async def _receive(self) -> tuple[int, bool, tuple] | None:  # type: ignore[type-arg]
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            message: tuple[int, bool, tuple] = pickle.loads(  # type: ignore[type-arg]
                await self._reader.readexactly(size)
            )
        except (asyncio.IncompleteReadError, OSError):
            return None
        return message


def _portable(error: Exception) -> tuple[type[Exception], tuple[object, ...]]:
    match error:
        case NodeError():
            return NodeError, (error.code, error.text)
        case OutsideError():
            return type(error), (error.system, str(error).removeprefix(f"{error.system}: "))
        case AppError():
            return type(error), (str(error),)
        case _:
            return RuntimeError, (f"{type(error).__name__}: {error}",)


async def dialled(path: str, serve: Serve) -> Peer:
    """Return an end that is connected to whoever listens at `path`."""
    reader, writer = await asyncio.open_unix_connection(path, limit=BYTES_MAX)
    return Peer(reader, writer, serve)
