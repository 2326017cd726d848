from hypothesis import given
from hypothesis import strategies as st

from bot.attach import LET_GO, Keys

TYPED = st.lists(st.sampled_from([b"a", b"\x03", b"\xc3\xa4", bytes([LET_GO])]), max_size=12)


def fed(chunks: list[bytes]) -> tuple[bytes, bool]:
    keys, passed = Keys(), b""
    for chunk in chunks:
        more, lets_go = keys.feed(chunk)
        passed += more
        if lets_go:
            return passed, True
    return passed, False


@given(TYPED)
def test_it_does_not_matter_how_keys_arrive(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert fed(chunks) == fed([whole]) == fed([bytes([key]) for key in whole])


@given(TYPED)
def test_the_shell_gets_every_key_before_the_two_that_let_go(chunks: list[bytes]) -> None:
    whole, two = b"".join(chunks), bytes([LET_GO, LET_GO])
    passed, lets_go = fed([whole])
    assert lets_go == (two in whole)
    expected = whole.partition(two)[0] if lets_go else whole
    waiting = b"" if lets_go or not whole.endswith(bytes([LET_GO])) else bytes([LET_GO])
    assert passed + waiting == expected
