import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.ids import ProjectId
from core.project import Project
from core.triage import one_line, read_plainly, slug

WEB = Project(id=ProjectId("web"), repository="acme/web")
API = Project(id=ProjectId("api"), repository="acme/api-server")
texts = st.text() | st.text(alphabet="ab ?.!/-\n\x00\x1b\u200b\u202e<@>`'é漢🫖")


@given(texts)
@example("")
@example("?" * 5000)
@example("漢字だけ")
@example("-" * 50)
@example("a" * 39 + "-b" * 9)
def test_every_text_has_a_reading_of_the_promised_form(text: str) -> None:
    reading = read_plainly(text, [WEB, API])
    for line in (reading.title, reading.reason):
        assert 1 <= len(line) <= 80
        assert line.isprintable()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", reading.slug)
    assert len(reading.slug) <= 40
    assert reading.project in {None, "web", "api"}
    assert reading == read_plainly(text, [WEB, API])


@given(texts, st.integers(2, 100))
def test_one_line_never_grows_and_is_stable(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert one_line(line, most) == line


@pytest.mark.parametrize(
    ("text", "title", "expected"),
    [
        ("Fix the cart. It rounds wrongly.", "Fix the cart", "fix-the-cart"),
        ("Why is it slow?", "Why is it slow?", "why-is-it-slow"),
        ("Wait for it...", "Wait for it...", "wait-for-it"),
        ("  fix\n the\tcart  ", "fix the cart", "fix-the-cart"),
        ("Größe prüfen, s'il vous plaît", "Größe prüfen, s'il vous plaît", None),
        ("../../etc/passwd; rm -rf /", "../../etc/passwd; rm -rf /", "etc-passwd-rm-rf"),
        ("\x1b[2J\u202egnp.exe", "[2J gnp.exe", "2j-gnp-exe"),
        ("--upload-pack=evil", "--upload-pack=evil", "upload-pack-evil"),
        ("🫖", "🫖", "task"),
        ("\n\n", "Untitled", "untitled"),
    ],
)
def test_the_first_sentence_is_the_title(text: str, title: str, expected: str | None) -> None:
    reading = read_plainly(text, [])
    assert reading.title == title
    assert reading.slug == (expected or "grosse-prufen-s-il-vous-plait")


def test_a_long_title_is_cut_at_a_word() -> None:
    reading = read_plainly("word " * 50, [])
    assert reading.title.endswith("word…")
    assert slug("word " * 50) == "-".join(["word"] * 8)


@pytest.mark.parametrize(
    ("text", "project"),
    [
        ("In web, fix the cart", "web"),
        ("In WEB: fix the cart", "web"),
        ("fix https://github.com/acme/web.git please", "web"),
        ("acme/api-server is slow", "api"),
        ("acme/api-server breaks web", "api"),
        ("web and api are slow", None),
        ("the website, the web-shop and cobweb", None),
        ("fix it", None),
    ],
)
def test_a_project_is_the_one_that_is_named(text: str, project: str | None) -> None:
    reading = read_plainly(text, [WEB, API])
    assert reading.project == project
    assert project is None or project in reading.reason


def test_a_question_ends_with_its_mark() -> None:
    assert read_plainly("Why is it slow? ", []).kind == "question"
    assert read_plainly("Why is it slow? Fix it.", []).kind == "task"
