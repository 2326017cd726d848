"""GitHub's own description of its API; `github-openapi.NOTICE.md` says where it is from."""

from functools import cache
from pathlib import Path

from bot.demo.openapi import Schema


@cache
def github() -> Schema:
    """Read the document once per process."""
    return Schema.read(
        Path(__file__).with_name("github-openapi.json.gz"),
        error="#/components/schemas/basic-error",
        slashes=("ref", "branch", "path"),
    )
