"""GitHub's ways to fail, in our words (pure)."""

import time
from typing import NoReturn

import requests
from github.GithubException import BadCredentialsException, GithubException

from core.errors import (
    CredentialError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)

SYSTEM = "GitHub"
SECONDARY_WAIT_S = 60
"""How long to wait after a secondary rate limit that names no time
(docs.github.com, "Rate limits for the REST API")."""


def translate(error: Exception) -> NoReturn:
    """Raise what `error` means to us.

    GitHub says "too often" with 403 or 429; `Retry-After` tells the wait, else
    `X-RateLimit-Reset` does when nothing remains, else it is a minute or more
    (docs.github.com, "Rate limits for the REST API", "Exceeding the rate limit").
    """
    if isinstance(error, GithubException):
        _translate_answer(error)
    if isinstance(error, TimeoutError | requests.Timeout):
        raise UnavailableError(SYSTEM, "it does not answer in time") from error
    if isinstance(error, requests.RequestException | OSError):
        raise UnavailableError(SYSTEM, "it cannot be reached") from error
    # PyGithub asserts where it should refuse: another host's URL, JSON of another shape. Something
    # between GitHub and us may have answered, so it is asked again within the caller's deadline.
    raise UnavailableError(SYSTEM, f"its answer makes no sense ({type(error).__name__})") from error


def _translate_answer(error: GithubException) -> NoReturn:
    headers = {key.lower(): value for key, value in (error.headers or {}).items()}
    said = sentence(error)
    if error.status == 429 or (error.status == 403 and _is_rate_limit(said, headers)):
        raise RateLimitedError(SYSTEM, said, retry_after_s=_wait_s(headers)) from error
    if error.status in {401, 403} or isinstance(error, BadCredentialsException):
        raise CredentialError(SYSTEM, said) from error
    if error.status == 404:
        raise NotFoundError(f"{SYSTEM} has no such thing, or we may not see it.") from error
    if error.status >= 500:
        wait = _number(headers.get("retry-after"))
        raise UnavailableError(SYSTEM, said, retry_after_s=wait) from error
    raise RefusedError(SYSTEM, said) from error


def sentence(error: GithubException) -> str:
    """Return what GitHub said, with the reasons of a failed validation."""
    data = error.data if isinstance(error.data, dict) else {}
    said = str(data.get("message") or f"status {error.status}").split("\n")[0]
    reasons = [_reason(item) for item in data.get("errors") or ()]
    return ": ".join([said, *[", ".join(reasons)] * bool(reasons)])


def _reason(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    return str(item.get("message") or f"{item.get('field')} is {item.get('code')}")


def _is_rate_limit(said: str, headers: dict[str, str]) -> bool:
    spent = headers.get("x-ratelimit-remaining") == "0"
    return "retry-after" in headers or spent or "rate limit" in said.lower()


def _wait_s(headers: dict[str, str]) -> float:
    asked = _number(headers.get("retry-after"))
    if asked is not None:
        return asked
    reset = _number(headers.get("x-ratelimit-reset"))
    if headers.get("x-ratelimit-remaining") == "0" and reset is not None:
        return max(1.0, reset - time.time())
    return SECONDARY_WAIT_S


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
