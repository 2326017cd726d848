"""Levers that make the stand-in misbehave."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Moment = Literal["before", "after"]


@dataclass(slots=True, kw_only=True)
class Fault:
    """What is to go wrong, how often it still will, and where.

    Attributes:
        status: Answer with this status instead of the real one; None leaves the answer alone.
        delay_s: Wait this long first.
        lose: Do what was asked, then cut the connection instead of answering.
    """

    method: str
    path: re.Pattern[str]
    times: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    delay_s: float = 0
    lose: bool = False


class Faults:
    """The faults that wait to happen, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let `fault` happen to the next requests that it matches."""
        self._waiting.append(fault)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits this request and count it."""
        for fault in self._waiting:
            if fault.method in {method, "*"} and fault.path.search(path):
                fault.times -= 1
                if not fault.times:
                    self._waiting.remove(fault)
                return fault
        return None
