"""Frames between viewers and terminals."""

from hypothesis import example, given
from hypothesis import strategies as st

from core.viewing import (
    COLUMNS_MAX,
    INPUT_BYTES_MAX,
    ROWS_MAX,
    Beat,
    Exited,
    Fit,
    Frame,
    Input,
    Look,
    Output,
    Paint,
    Resized,
    Seen,
    Size,
    Viewer,
    ViewError,
    Viewers,
    decode,
    encode,
)

sizes = st.builds(Size, st.integers(1, COLUMNS_MAX), st.integers(1, ROWS_MAX))
offsets = st.integers(0, 2**64 - 2)
viewers = st.builds(Viewer, name=st.text(), writes=st.booleans(), is_active=st.booleans())
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Look, sizes, st.none() | offsets),
    st.builds(Input, st.binary(max_size=200)),
    st.builds(Seen, offsets),
    st.builds(Fit, sizes),
    st.builds(Beat),
    st.builds(Output, offsets, st.binary(max_size=200)),
    st.builds(Paint, offsets, sizes, st.binary(max_size=200)),
    st.builds(Resized, sizes),
    st.builds(Viewers, st.lists(viewers, max_size=5).map(tuple)),
    st.builds(Exited, st.none() | st.integers(-64, 255)),
)


@given(frames)
def test_every_frame_arrives_as_it_was_sent(frame: Frame) -> None:
    assert decode(encode(frame)) == frame


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda t, b: t + b,
        st.sampled_from([b"L", b"I", b"S", b"F", b"B", b"O", b"P", b"R", b"V", b"X"]),
        st.binary(max_size=40),
    )
)
@example(b"I" + b"x" * (INPUT_BYTES_MAX + 1))
@example(b"V" + b"[" * 100_000)
@example(b"V[[1]]")
@example(b"V\xff\xfe[")
@example(b"F\x00\x00\x00\x01")
def test_any_bytes_are_a_frame_or_an_error(message: bytes) -> None:
    try:
        frame = decode(message)
    except ViewError:
        return
    assert decode(encode(frame)) == frame
