"""A value that must not be seen in a log, a traceback or an event."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A key, token or password. It shows itself only to `reveal`."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the secret itself, to be handed on at once."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"
