import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.receipt import (
    all_passed,
    check_line,
    checks_in,
    collected_in,
    measured_lines,
    measured_of,
    pull_body,
    pull_title,
    quiet,
)
from core.wire import CheckResult, Collected, FileChange, to_json
from tests.fakes.nouns import a_run, a_task

FOUND = Collected(
    head="b" * 40,
    base_commit="a" * 40,
    remote="",
    commits=1,
    files=(FileChange(path="x", added=1, removed=0),),
)


def check(exit_code: int, tail: str = "") -> dict[str, object]:
    return to_json(CheckResult(command="make", exit_code=exit_code, took_s=2.4, tail=tail))


def measured(*checks: dict[str, object]) -> dict[str, object]:
    return {**measured_of(FOUND), "checks": list(checks), "pull_head": "c" * 40}


def body(**values: object) -> str:
    run = a_run(**{"measured": measured_of(FOUND), "summary": "Done.", **values})
    return pull_body(a_task(), run, asked_by="Ana", page_url="http://page")


def test_what_was_measured_is_read_back_as_it_was_written():
    assert collected_in(measured_of(FOUND)) == FOUND
    assert collected_in(None) is None
    assert checks_in(None) is None
    assert checks_in(measured_of(FOUND)) is None
    assert checks_in(measured()) == ()


@pytest.mark.parametrize(
    ("exit_code", "line"),
    [
        (0, "`make` passed (2.4 s)"),
        (2, "`make` failed with exit code 2 (2.4 s)"),
        (-1, "`make` did not end in 2 s"),
    ],
)
def test_one_check_is_one_line(exit_code: int, line: str):
    assert check_line(CheckResult(command="make", exit_code=exit_code, took_s=2.4, tail="")) == line


def test_no_check_and_no_failed_check_are_both_good():
    assert all_passed(a_run())
    assert all_passed(a_run(measured=measured(check(0))))
    assert not all_passed(a_run(measured=measured(check(0), check(-1))))


def test_the_count_of_commits_is_grammatical():
    assert measured_lines(a_run(measured=measured_of(FOUND)))[0] == "1 commit at bbbbbbb"
    assert measured_lines(a_run()) == ()


@given(st.text(max_size=60))
def test_c10_words_of_an_agent_address_nobody(text: str):
    said = quiet(f"Thanks @{text} and @all")
    assert "@all" not in said
    assert said.replace("@\u200b", "@") == f"Thanks @{text} and @all".replace("@\u200b", "@")


def test_c10_code_and_addresses_keep_their_sign():
    assert quiet("`@decorator` and a@b.org and npm/@scope") == (
        "`@decorator` and a@b.org and npm/@scope"
    )
    assert pull_title(a_task(title="@all " + "x" * 200)).startswith("@\u200ball ")
    assert len(pull_title(a_task(title="x" * 500))) == 120


def test_the_description_has_the_request_the_claim_and_the_measure():
    text = body(measured=measured(check(1, "``` boom")))
    assert "Asked for by Ana as [T-1](http://page)." in text
    assert "> Fix the cart." in text
    assert "> Done." in text
    assert "- `make` failed with exit code 1 (2.4 s)" in text
    assert "````\n``` boom\n````" in text, "a log must not close its own fence"
    assert text.endswith("<!-- samovar:T-1 -->\n")


def test_a_silent_agent_and_a_long_log_still_make_a_description():
    text = body(summary="", measured=measured(check(1, "x" * 100_000)))
    assert "> (nothing)" in text
    assert len(text) < 65_536, "GitHub's limit"
    assert text.endswith("<!-- samovar:T-1 -->\n")
