"""Secrets by their shape, hidden in what people are shown."""

import re
from collections.abc import Sequence

from agent.secrets_guard import PATTERNS

_SHAPES = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY(?: BLOCK)?-----"
    rb"[\s\S]{0,12000}?(?:-----END[A-Z -]*-----|\Z)|"
    + b"|".join(f"(?:{shape})[A-Za-z0-9_-]*".encode() for shape in PATTERNS[1:])
)


def masked(data: bytes, secrets: Sequence[bytes] = ()) -> bytes:
    """Return data of the same length in which secrets are stars.

    Args:
        data: Whole: a secret of which a part is missing is not found.
        secrets: Known values, the longest first, besides those that are known by their shape.
    """
    for secret in secrets:
        data = data.replace(secret, b"*" * len(secret))
    return _SHAPES.sub(lambda found: b"*" * len(found.group()), data)
