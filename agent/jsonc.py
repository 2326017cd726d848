"""JSON with comments and trailing commas, as devcontainer.json is written."""

import json
import re
from typing import Any

SKIPPED = r"(?>//[^\n]*|/\*.*?\*/|\s)"
"""A comment or white space, whole or not at all: no second reading makes it longer."""
TOKEN = re.compile(rf'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/|,(?={SKIPPED}*+[}}\]])', re.DOTALL)


class SyntaxFault(ValueError):  # noqa: N818  the fault is in somebody's file, not in our program
    """The text is no JSON, even with comments.

    Attributes:
        line: Where, counted from 1.
        reason: What is wrong there.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def loads(text: str) -> dict[str, Any]:
    """Read an object.

    Raises:
        SyntaxFault: If it cannot be read or is something else than an object.
    """
    try:
        value = json.loads(TOKEN.sub(_blank, text.removeprefix("\ufeff")), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise SyntaxFault(error.lineno, error.msg) from error
    except (ValueError, RecursionError) as error:
        raise SyntaxFault(1, str(error)[:200]) from error
    if not isinstance(value, dict):
        raise SyntaxFault(1, "it is not an object")
    return value


def _blank(match: re.Match[str]) -> str:
    """Keep strings; replace the rest by blanks, so that positions stay."""
    token = match[0]
    return token if token.startswith('"') else re.sub(r"[^\n]", " ", token)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
