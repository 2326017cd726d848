"""What a workspace may push, for any push."""

from hypothesis import given
from hypothesis import strategies as st

from adapters.github.pkt import Command
from adapters.github.push_rules import refusals

BRANCHES = "samovar/T-142-"
ZERO, ONE = "0" * 40, "1" * 40
refs = st.one_of(
    st.sampled_from(
        [
            "refs/heads/main",
            "refs/heads/samovar/T-142-",
            "refs/heads/samovar/T-142-fix",
            "refs/heads/samovar/T-142-fix/more",
            "refs/heads/samovar/T-1421-x",
            "refs/heads/refs/heads/samovar/T-142-x",
            "refs/tags/samovar/T-142-x",
            "refs/headsamovar/T-142-x",
            "samovar/T-142-x",
            "HEAD",
        ]
    ),
    st.text(min_size=1, max_size=20).map(lambda text: f"refs/heads/{text}"),
)
commands = st.builds(
    lambda old, new, ref: Command(old=old, new=new, ref=ref),
    st.sampled_from([ZERO, ONE]),
    st.sampled_from([ZERO, ONE]),
    refs,
)


@given(st.lists(commands, max_size=4))
def test_t5_a_push_passes_only_if_every_ref_is_a_branch_of_the_task(asked: list[Command]) -> None:
    start = f"refs/heads/{BRANCHES}"
    allowed = all(
        command.ref.startswith(start) and command.ref != start and command.new != ZERO
        for command in asked
    )
    assert (refusals(asked, BRANCHES) == {}) == allowed


@given(st.lists(commands, min_size=1, max_size=4))
def test_a_refused_push_has_a_reason_for_every_ref(asked: list[Command]) -> None:
    reasons = refusals(asked, BRANCHES)
    assert not reasons or reasons.keys() == {command.ref for command in asked}
    assert all("\n" not in reason for reason in reasons.values())
