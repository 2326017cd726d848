"""The fields of an answer's form."""

import pytest
from starlette.datastructures import FormData

from adapters.web.answers import answers_in
from core.errors import UserError

OPTIONS = [{"label": "Blue", "description": ""}, {"label": "Red\u202e"}]
ONE = {"text": "Which colour?", "options": OPTIONS, "multiple": False}
MANY = {"text": "Which files?", "options": [{"label": "a"}, {"label": "b"}], "multiple": True}


def test_options_are_given_by_number_so_their_text_arrives_as_it_was_asked() -> None:
    assert answers_in(FormData([("q0", "1")]), [ONE]) == {"Which colour?": "Red\u202e"}


def test_own_words_go_before_an_option() -> None:
    form = FormData([("q0", "0"), ("own0", " green ")])
    assert answers_in(form, [ONE]) == {"Which colour?": "green"}


def test_several_answers_are_joined() -> None:
    form = FormData([("q0", "0"), ("q1", "0"), ("q1", "1"), ("own1", "c")])
    assert answers_in(form, [ONE, MANY]) == {"Which colour?": "Blue", "Which files?": "a, b, c"}


@pytest.mark.parametrize("value", ["2", "-1", "x", "", "0x0", "²"])
def test_a_number_that_is_no_option_is_refused(value: str) -> None:
    with pytest.raises(UserError):
        answers_in(FormData([("q0", value)]), [ONE])


def test_no_answer_is_refused_with_a_sentence() -> None:
    with pytest.raises(UserError, match="Choose an answer"):
        answers_in(FormData([]), [ONE])
