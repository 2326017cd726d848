"""Hetzner's description of its API; `hcloud-openapi.NOTICE.md` says where it is from."""

from functools import cache
from pathlib import Path

from bot.demo.openapi import Schema


@cache
def hetzner() -> Schema:
    """Read the document once per process."""
    return Schema.read(
        Path(__file__).with_name("hcloud-openapi.json.gz"),
        error="#/components/schemas/error_response",
    )
