"""GitHub's own description of its API; `github-openapi.NOTICE.md` says where it is from."""

import gzip
import json
import re
from functools import cache
from pathlib import Path

from bot.demo.openapi import Schema, Waiver

DOCUMENT = Path(__file__).with_name("github-openapi.json.gz")

WAIVERS = (
    Waiver(
        operation=re.compile(".*"),
        fault=re.compile(r"status [45]\d\d is not described"),
        reason="the description names few error statuses; others are judged as `basic-error`",
    ),
)


@cache
def github() -> Schema:
    """Read the document once per process."""
    with gzip.open(DOCUMENT, "rt", encoding="utf-8") as file:
        return Schema(
            json.load(file),
            waivers=WAIVERS,
            error="#/components/schemas/basic-error",
            slashes=("ref", "branch", "path"),
        )
