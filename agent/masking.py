"""Secrets by their shape, hidden in what people are shown."""

import re
from collections.abc import Iterator, Sequence

from agent.secrets_guard import PATTERNS

KEY_BYTES_MAX = 12_000
"""The longest private key that is hidden as a whole."""

_BEGIN = re.compile(PATTERNS[0].encode())
_END = re.compile(rb"-----END[A-Z -]*-----")
_LINES = re.compile(
    rb"(?:\s{0,8}[A-Z][\w-]{0,30}: [^\r\n]{0,100})*+"
    rb"(?:(?:[^\r\n]{0,48}?|[^\r\n]{0,24}[\r\n]+[^\r\n]{0,24}?)[A-Za-z0-9+/=]{16,})+"
)
"""Headers and lines of a key, with what a diff, a listing or colours put before and after each."""
_SHAPES = re.compile(b"|".join(f"(?:{shape})[A-Za-z0-9_-]*".encode() for shape in PATTERNS[1:]))


def masked(data: bytes, secrets: Sequence[bytes] = ()) -> bytes:
    """Return data of the same length in which secrets are stars; takes time linear in its length.

    Args:
        data: Whole: a secret of which a part is missing is not found, but for a private key
            without its end.
        secrets: Known values, the longest first, besides those that are known by their shape.
    """
    for secret in secrets:
        data = data.replace(secret, b"*" * len(secret))
    hidden = bytearray(data)
    for start, end in _keys(data):
        hidden[start:end] = b"*" * (end - start)
    return _SHAPES.sub(lambda found: b"*" * len(found.group()), hidden)


def _keys(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where private keys are: to their end or, without one, as far as they look like it."""
    begin = _BEGIN.search(data)
    while begin is not None:
        after = _BEGIN.search(data, begin.end())
        stop = begin.start() + KEY_BYTES_MAX
        if after is not None:
            stop = min(stop, after.start())
        rest = _END.search(data, begin.end(), stop) or _LINES.match(data, begin.end(), stop)
        if rest is not None:
            yield begin.start(), rest.end()
        begin = after
