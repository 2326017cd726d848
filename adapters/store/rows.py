"""Nouns to rows and back, by the types of their fields: a new noun costs one table.

The columns are plain; reading is done here, row by row, so that one bad row is one bad row.
"""

import json
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

N = TypeVar("N")


class Time(sa.TypeDecorator[datetime]):
    """UTC: `timestamptz` on PostgreSQL, text of one width on SQLite, so that it sorts."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """Return the column type of the database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Refuse times without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        if dialect.name == "postgresql":
            return value.astimezone(UTC)
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        """Return what is stored; `rows` reads it."""
        return value


class UnreadableRowError(ValueError):
    """A row holds what this version cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a noun as a column.

    Attributes:
        write: From the noun's value to the column's.
        read: Back; raises `ValueError`, `TypeError` or `KeyError` for what cannot be.
        choices: All values of an enumeration, empty for other types.
    """

    name: str
    type: sa.types.TypeEngine[Any]
    is_null: bool
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    choices: tuple[str, ...] = ()

    def load(self, raw: Any) -> Any:
        """Return the noun's value for the column's."""
        if raw is not None:
            return self.read(raw)
        if not self.is_null:
            raise ValueError("is null")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Generic[N]):
    """How one kind of noun lies in its table."""

    kind: type[N]
    fields: Mapping[str, Field]

    def write(self, noun: N) -> dict[str, Any]:
        """Return the columns of `noun`."""
        return {name: self.value(name, getattr(noun, name)) for name in self.fields}

    def value(self, name: str, value: Any) -> Any:
        """Return what the column `name` holds for `value`."""
        return None if value is None else self.fields[name].write(value)

    def read(self, row: Mapping[str, Any]) -> N:
        """Return the noun of a row.

        Raises:
            UnreadableRowError: If a column holds what its field cannot.
        """
        values = {}
        for name, field in self.fields.items():
            try:
                values[name] = field.load(row[name])
            except (ValueError, TypeError, KeyError, InvalidOperation) as error:
                raise UnreadableRowError(f"{self.kind.__name__}.{name}: {error}") from error
        return self.kind(**values)


def shape(kind: type[N]) -> Shape[N]:
    """Return the shape of a dataclass."""
    return cast("Shape[N]", _shape(cast("Hashable", kind)))


@cache
def _shape(of: Hashable) -> Shape[Any]:
    kind = cast("type[Any]", of)
    hints = get_type_hints(kind)
    return Shape(kind=kind, fields={f.name: _field(f.name, hints[f.name]) for f in fields(kind)})


def clean(text: str) -> str:
    """Return `text` without what no column holds: NUL and half surrogate pairs."""
    text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _field(name: str, hint: Any) -> Field:
    is_null = get_origin(hint) in {UnionType, Union}
    if is_null:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    while hasattr(hint, "__supertype__"):  # A NewType of ids.
        hint = hint.__supertype__
    choices: tuple[str, ...] = ()
    origin = get_origin(hint) or hint
    if origin is Literal:
        choices = get_args(hint)
        column, write, read = _choice(_one_of(choices))
    elif isinstance(hint, type) and issubclass(hint, StrEnum):
        choices = tuple(str(value) for value in hint)
        column, write, read = _choice(hint)
    else:
        column, write, read = _PLAIN[origin]
    return Field(name=name, type=column, is_null=is_null, write=write, read=read, choices=choices)


def _choice(read: Callable[[Any], Any]) -> "_Plain":
    return sa.Text(), str, read


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r:.40} is not one of {choices}")
        return str(value)

    return read


def _is(*kinds: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{value!r:.40} is not {kinds[0].__name__}")
        return value

    return read


def _read_flag(value: Any) -> bool:
    if value not in {0, 1}:
        raise ValueError(f"{value!r:.40} is no yes or no")
    return bool(value)


def _write_number(value: float) -> float:
    if not math.isfinite(value):  # SQLite would keep NaN as NULL.
        raise ValueError(f"{value} is no number for a column")
    return float(value)


def _read_number(value: Any) -> float:
    return float(_is(float, int)(value))


def _read_time(value: Any) -> datetime:
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.astimezone(UTC)


def _write_json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _read_list(value: str) -> tuple[Any, ...]:
    items = json.loads(value)
    if not isinstance(items, list):
        raise TypeError(f"{value!r:.40} is not a list")
    return tuple(items)


def _read_object(value: str) -> dict[str, Any]:
    item = json.loads(value)
    if not isinstance(item, dict):
        raise TypeError(f"{value!r:.40} is not an object")
    return item


_Plain = tuple[sa.types.TypeEngine[Any], Callable[[Any], Any], Callable[[Any], Any]]
_PLAIN: Mapping[Any, _Plain] = {
    str: (sa.Text(), clean, _is(str)),
    int: (sa.BigInteger(), int, _is(int)),
    float: (sa.Double(), _write_number, _read_number),
    bool: (sa.Boolean(), bool, _read_flag),
    datetime: (Time(), lambda value: value, _read_time),
    Decimal: (sa.Text(), str, Decimal),
    tuple: (sa.Text(), lambda value: _write_json(list(value)), _read_list),
    dict: (sa.Text(), _write_json, _read_object),
}
"""Column type, write and read of each plain type. Money is exact text; lists and dicts are JSON."""
