"""Hetzner's description of its API; `hcloud-openapi.NOTICE.md` says where it is from."""

import gzip
import json
import re
from functools import cache
from pathlib import Path

from bot.demo.openapi import Schema, Waiver

DOCUMENT = Path(__file__).with_name("hcloud-openapi.json.gz")
WAIVERS = (
    Waiver(
        operation=re.compile(".*"),
        fault=re.compile(r"status [45]\d\d is not described"),
        reason="the description says 4xx and 5xx; they are judged as `error_response`",
    ),
)


@cache
def hetzner() -> Schema:
    """Read the document once per process."""
    with gzip.open(DOCUMENT, "rt", encoding="utf-8") as file:
        return Schema(json.load(file), waivers=WAIVERS, error="#/components/schemas/error_response")
