"""Set-up of a machine: every outside thing that Samovar needs, found, installed or started."""

from bot.setup.missing import MissingError
from bot.setup.outfit import (
    PAGES,
    RUN,
    TEST,
    Outfit,
    ensure,
    examine,
    in_use,
    may_install,
    provide,
)
from bot.setup.requirement import Finding

__all__ = [
    "PAGES",
    "RUN",
    "TEST",
    "Finding",
    "MissingError",
    "Outfit",
    "ensure",
    "examine",
    "in_use",
    "may_install",
    "provide",
]
