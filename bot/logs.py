"""Logs: one line per unit of work, for people on a terminal and as JSON for machines."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_NAMES = re.compile(r"token|secret|password|authorization|api_key|cookie", re.IGNORECASE)
_SECRET_VALUES = re.compile(
    r"(sk-ant-|gh[pousr]_|github_pat_|wst_)[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=Bearer )\S+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def set_up_logs(*, is_quiet: bool = False) -> None:
    """Write logs to stderr: coloured for a terminal, else one JSON object a line."""
    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redacted,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.ERROR if is_quiet else logging.INFO
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    level = logging.ERROR if is_quiet else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, force=True)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut)


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Leave out that an answer was not completed: that is how a stream is cut, and told there."""
    return record.msg != "ASGI callable returned without completing response."


def redacted(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Take secrets out of a log line, by the names of its fields and by how they look."""
    for name, value in event.items():
        event[name] = _without_secrets(name, value)
    return event


def _without_secrets(name: str, value: Any) -> Any:
    match value:
        case str():
            is_secret = _SECRET_NAMES.search(name) and value
            return "***" if is_secret else _SECRET_VALUES.sub(_masked, value)
        case dict():
            return {key: _without_secrets(str(key), item) for key, item in value.items()}
        case list() | tuple():
            return [_without_secrets(name, item) for item in value]
    return value


def _masked(found: re.Match[str]) -> str:
    return f"{found.group(1) or ''}***"
