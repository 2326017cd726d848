"""Words of strangers on their way to a page."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.web.text import DIFF_LINES_MAX, diff_lines, markdown
from adapters.web.visible import clip, log_text, visible

HIDDEN = "\x00\x07\x1b\x7f\x9b\u00ad\u061c\u200b\u200e\u202e\u2066\u2060\ufeff\u3164\U000e0041"


@pytest.mark.parametrize("character", HIDDEN)
def test_c10_a_hidden_character_becomes_a_mark_that_people_see(character: str) -> None:
    shown = visible(f"a{character}b")
    assert character not in shown
    assert len(shown) > 2


def test_c10_half_a_surrogate_pair_becomes_text_that_can_be_sent() -> None:
    visible("a\ud800b").encode()


def test_lines_tabs_emoji_and_persian_stay_as_they_are() -> None:
    text = "a\tb\nüß 👩\u200d💻 ❤\ufe0f \u0645\u06cc\u200c\u062e"
    assert visible(text) == text


@given(st.text())
def test_making_visible_twice_changes_nothing(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(st.text())
def test_c10_markdown_of_anybody_makes_no_script_picture_or_foreign_link(text: str) -> None:
    html = str(markdown(f"{text}\n\n<script>alert(1)</script> <img src=x onerror=y>"))
    assert not re.search(r"<(script|img|iframe|style|svg|form|input)\b", html, re.IGNORECASE)
    for target in re.findall(r'href="([^"]*)"', html):
        assert re.match(r"https?://", target, re.IGNORECASE)


@pytest.mark.parametrize(
    "link",
    [
        "[x](javascript:alert(1))",
        "[x](data:text/html,hi)",
        "[x](/tasks/T-1/stop)",
        "[x](//evil.example)",
        "<javascript:alert(1)>",
        "[x](file:///etc/passwd)",
    ],
)
def test_c10_links_that_do_not_lead_to_the_web_are_words(link: str) -> None:
    assert "<a" not in markdown(link)


def test_c10_links_tell_nobody_where_people_came_from() -> None:
    html = markdown("[docs](https://example.org/a)")
    assert 'href="https://example.org/a"' in html
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("See https://example.org/a?b=1&c=2.", "https://example.org/a?b=1&amp;c=2"),
        ("(http://10.0.0.1:80/pull/1)", "http://10.0.0.1:80/pull/1"),
        ("**https://example.org**", "https://example.org"),
    ],
)
def test_an_address_in_running_text_is_a_link(text: str, address: str) -> None:
    assert f'<a href="{address}" rel=' in markdown(text)


@pytest.mark.parametrize(
    "text", ["`https://example.org`", "```\nhttps://a.b\n```", "ftp://a.b", "xhttps://a.b"]
)
def test_an_address_in_code_is_code(text: str) -> None:
    assert "<a" not in markdown(text)


def test_a_link_holds_no_other_link() -> None:
    assert markdown("[https://a.example](https://b.example)").count("<a") == 1


def test_c10_a_picture_is_a_link_and_is_not_fetched() -> None:
    html = markdown('![cat "><script>](https://evil.example/pixel.png)')
    assert "<img" not in html
    assert "<script" not in html
    assert 'href="https://evil.example/pixel.png"' in html


def test_long_text_is_shown_as_it_is() -> None:
    html = markdown("*" * 70_000)
    assert html.startswith("<pre")
    assert "more characters" in html


def test_a_clipped_text_says_how_much_is_missing() -> None:
    assert clip("abcdef", 4) == "abcd\n… (2 more characters)"
    assert clip("abcd", 4) == "abcd"


def test_colours_of_a_log_go_and_progress_lines_stay_readable() -> None:
    assert log_text("\x1b[31mred\x1b[0m 10%\r20%\r\ndone") == "red 10%\n20%\ndone"


def test_lines_of_a_change_know_what_they_are() -> None:
    lines = diff_lines("--- a\n+++ b\n@@ -1 +1 @@\n-old\n+new\n same")
    assert [kind for kind, _ in lines] == ["head", "head", "hunk", "del", "add", ""]


def test_a_huge_change_is_cut_with_a_remark() -> None:
    lines = diff_lines("+x\n" * 1000)
    assert len(lines) == DIFF_LINES_MAX + 1
    assert "more lines" in lines[-1][1]
