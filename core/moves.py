"""How a noun changes its state: a table, and one function that knows it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from core.errors import TransitionError


class _Stateful(Protocol):
    @property
    def state(self) -> StrEnum: ...
    @property
    def state_since(self) -> datetime: ...


N = TypeVar("N")
S = TypeVar("S", bound=StrEnum)
Moves = Mapping[S, frozenset[S]]


def moved(noun: N, to: S, moves: Moves[S], *, at: datetime, **values: Any) -> N:
    """Return `noun` in state `to` with `values` replaced, or raise `TransitionError`.

    A wall clock steps back now and then; `state_since` never does.
    """
    state, since = noun.state, noun.state_since  # type: ignore[attr-defined]
    if to not in moves[state]:
        raise TransitionError(f"{type(noun).__name__}: {state} -> {to}")
    return replace(noun, state=to, state_since=max(at, since), **values)  # type: ignore[type-var]
