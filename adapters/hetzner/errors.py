"""Hetzner's ways to fail, in our words (pure): each class has one way to go on (N9).

| class | error | what is done |
|---|---|---|
| capacity | `CapacityError` | the next type or location |
| quota | `RefusedError`, code `account_limit` | told; one must go, or the limit be raised |
| auth | `CredentialError` | told; nothing is taken for gone |
| rate limit | `RateLimitedError` | again after the time that Hetzner names |
| invalid | `RefusedError` | told; not tried again |
| unknown, and what passes | `UnavailableError` | tried again until the step's deadline |
"""

from collections.abc import Mapping
from typing import NoReturn

import requests
from hcloud import APIException
from hcloud.actions import ActionException

from core.errors import (
    CapacityError,
    CredentialError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)

SYSTEM = "Hetzner"
CAPACITY = frozenset({"resource_unavailable", "placement_error"})
QUOTA = frozenset({"resource_limit_exceeded"})
AUTH = frozenset({"unauthorized", "forbidden", "token_readonly"})
INVALID = frozenset(
    {
        *("deprecated_api_endpoint", "invalid_input", "invalid_server_type", "json_error"),
        *("method_not_allowed", "not_found", "protected", "uniqueness_error", "unsupported_error"),
    }
)
"""Codes of github.com/hetznercloud/hcloud-go, `hcloud/error.go`."""
PLACEMENT = "error during placement"
"""Said with status 412 when there is no such machine now."""
RATE_LIMIT_S = 30.0
"""3,600 requests an hour come back at one a second; the client does not pass on its headers
(docs.hetzner.cloud, "Rate Limiting")."""


def translate(error: Exception) -> NoReturn:
    """Raise what `error` means to us."""
    if isinstance(error, APIException):
        _raise(str(error.code), error.message, error)
    if isinstance(error, ActionException):
        told: Mapping[str, object] = error.action.error or {}
        _raise(str(told.get("code", "")), str(told.get("message", error.message)), error)
    if isinstance(error, TimeoutError | requests.Timeout):
        raise UnavailableError(SYSTEM, "it does not answer in time") from error
    if isinstance(error, requests.RequestException | OSError):
        raise UnavailableError(SYSTEM, "it cannot be reached") from error
    name = type(error).__name__
    raise UnavailableError(SYSTEM, f"its answer makes no sense ({name})") from error


def _raise(code: str, said: str, error: Exception) -> NoReturn:
    if code in CAPACITY or PLACEMENT in said:
        raise CapacityError(SYSTEM, said) from error
    if code in QUOTA:
        hint = f"{said}. Ask Hetzner for a higher limit, or remove machines"
        raise RefusedError(SYSTEM, hint, code="account_limit") from error
    if code in AUTH or code in {"401", "403"}:
        hint = f"{said}. Its token must be valid, of this project, and may read and write"
        raise CredentialError(SYSTEM, hint) from error
    if code in {"rate_limit_exceeded", "429"}:
        raise RateLimitedError(SYSTEM, said, retry_after_s=RATE_LIMIT_S) from error
    if code in INVALID:
        raise RefusedError(SYSTEM, said) from error
    raise UnavailableError(SYSTEM, f"{said} ({code})") from error
