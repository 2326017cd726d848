"""A process that dies at any call of a port, before it or after it."""

from collections.abc import Awaitable, Callable


class Killed(BaseException):
    """The process is dead from here on."""


class Fuse:
    """Counts calls, before and after each; at the given one the process dies, and stays dead."""

    def __init__(self, length: int) -> None:
        self.left = length

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    @property
    def is_blown(self) -> bool:
        return self.left < 0


class Fused:
    """Any port whose calls burn a fuse."""

    def __init__(self, port: object, fuse: Fuse, *, free: frozenset[str] = frozenset()) -> None:
        self._port, self._fuse, self._free = port, fuse, free

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        method = getattr(self._port, name)

        async def call(*arguments: object, **named: object) -> object:
            if self._fuse.is_blown:
                raise Killed
            if name not in self._free:
                self._fuse.burn()
            result = await method(*arguments, **named)
            if name not in self._free:
                self._fuse.burn()
            return result

        return call
