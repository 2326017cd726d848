"""Reads from an answer of the Messages API what it cost. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.prices import KINDS

PIECE = b"event: content_block_delta"
PIECE_FRAME_BYTES = 110
"""What a piece of a stream weighs besides its text."""
BYTES_PER_TOKEN = 4
EVENTS = (b"event: message_start", b"event: message_delta", b"event: message_stop")


@dataclass(slots=True)
class Meter:
    """Counts the tokens of one answer while its bytes pass by.

    The vendor says the output tokens only at the end. An answer that was broken off before is
    counted from the size of its pieces, so that breaking off does not make it free.

    Attributes:
        model: The model that answered, in its own words; empty until it said so.
        is_over: The last event has been seen.
    """

    model: str = ""
    is_over: bool = False
    _tokens: dict[str, int] = field(default_factory=dict)
    _rest: bytes = b""
    _piece_bytes: int = 0
    _is_final: bool = False

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of a stream, cut anywhere."""
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        for event in events:
            if event.startswith(PIECE):
                self._piece_bytes += max(0, len(event) - PIECE_FRAME_BYTES)
            elif event.startswith(EVENTS):
                self._read_event(event)

    def read_whole(self, body: bytes) -> None:
        """Read an answer that came in one piece."""
        self._take(_parsed(body))
        self._is_final = self.is_over = True

    def tokens(self) -> dict[str, int]:
        """Return the tokens by kind, empty if the answer never began."""
        tokens = dict(self._tokens)
        if tokens and not self._is_final:
            guess = self._piece_bytes // BYTES_PER_TOKEN
            tokens["output_tokens"] = max(tokens.get("output_tokens", 0), guess)
        return tokens

    def _read_event(self, event: bytes) -> None:
        data = _parsed(event.partition(b"data: ")[2])
        match data.get("type"):
            case "message_start":
                self._take(_object(data.get("message")))
            case "message_delta":
                self._take(data)
                self._is_final = True
            case "message_stop":
                self.is_over = True

    def _take(self, said: Mapping[str, object]) -> None:
        """Keep the newest figure of each kind: they count from the start of the answer."""
        model = said.get("model")
        self.model = model if isinstance(model, str) else self.model
        usage = _object(said.get("usage"))
        for kind in KINDS:
            count = usage.get(kind)
            if isinstance(count, int) and count >= 0:
                self._tokens[kind] = count


def _parsed(text: bytes) -> Mapping[str, object]:
    try:
        return _object(json.loads(text))
    except ValueError:
        return {}


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
