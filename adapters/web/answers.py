"""The fields of an answer's form as answers (pure)."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from core.errors import UserError

ANSWER_CHARS_MAX = 20_000


class Fields(Protocol):
    """A submitted form."""

    def getlist(self, key: str) -> list[Any]:
        """Return all values of a field."""
        ...


def answers_in(form: Fields, questions: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return question text to answer text.

    Options are given by their number, so that no text has to survive a page and back. Own words
    go before a chosen option.

    Raises:
        UserError: If a question has no answer.
    """
    return {
        str(question.get("text", "")): _answer(form, number, question)
        for number, question in enumerate(questions)
    }


def _answer(form: Fields, number: int, question: Mapping[str, object]) -> str:
    own = " ".join(str(text).strip() for text in form.getlist(f"own{number}")).strip()
    chosen = [_label(question, str(value)) for value in form.getlist(f"q{number}")]
    if own and question.get("multiple"):
        chosen.append(own)
    elif own:
        chosen = [own]
    if not chosen:
        raise UserError("Choose an answer or write one.")
    return ", ".join(chosen)[:ANSWER_CHARS_MAX]


def _label(question: Mapping[str, object], number: str) -> str:
    options = question.get("options")
    if not isinstance(options, list | tuple) or not number.isdecimal():
        raise UserError("That is not one of the answers.")
    if int(number) >= len(options) or not isinstance(options[int(number)], Mapping):
        raise UserError("That is not one of the answers.")
    return str(options[int(number)].get("label", ""))
