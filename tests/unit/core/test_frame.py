from core.frame import frame
from tests.fakes.nouns import a_project, a_task


def test_the_frame_names_the_task_its_branch_and_the_checks():
    text = frame(a_task(), a_project(checks=("make test", "ruff check")))
    for part in ("T-1", "acme/web", "samovar/T-1-fix-the-cart", "make test; ruff check."):
        assert part in text


def test_only_a_question_is_asked_to_be_answered():
    assert "`answer`" in frame(a_task(kind="question"), a_project())
    assert "`answer`" not in frame(a_task(), a_project())


def test_a_later_run_knows_what_was_asked_at_first():
    assert "Fix the {cart}." not in frame(a_task(prompt="Fix the {cart}."), a_project())
    assert "Fix the {cart}." in frame(a_task(prompt="Fix the {cart}.", runs=2), a_project())
