"""The one error of the set-up."""

from core.errors import ConfigError

FETCH = "./samovar demo --once"
"""Fetches everything that runs tasks, and shows that it works."""


class MissingError(ConfigError):
    """Something that Samovar needs is not on this machine.

    Attributes:
        sentence: What is missing and why we could not bring it.
        mend: The command that mends it, as a person would type it.
    """

    code = "missing"

    def __init__(self, sentence: str, *, mend: str) -> None:
        super().__init__(f"{sentence}.\n  Mend it: {mend}" if mend else f"{sentence}.")
        self.sentence = sentence
        self.mend = mend
