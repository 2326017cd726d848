import json

from hypothesis import given
from hypothesis import strategies as st

from adapters.anthropic.meter import Meter
from bot.demo.frames import frames, message
from bot.demo.script import say, step, use

counts = st.integers(0, 10**9)
usages = st.fixed_dictionaries(
    {
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": counts,
    }
)


def stream(text: str, usage: dict[str, int], *, until: str = "") -> bytes:
    """Return the bytes of an answer, up to the first event of the kind `until`."""
    one = step(say(text, chunks=7), use("Bash", command=text), usage=usage)
    whole = message(one, message_id="msg_1", model="claude-opus-5-5", asked_bytes=400)
    sent = b""
    for frame in frames(one, whole):
        if frame.data["type"] == until:
            break
        sent += frame.encode()
    return sent


@given(st.text(), usages, st.lists(st.integers(0, 3000)))
def test_it_does_not_matter_how_a_stream_is_cut(
    text: str, usage: dict[str, int], cuts: list[int]
) -> None:
    sent = stream(text, usage)
    meter, at = Meter(), 0
    for cut in [*sorted(cuts), len(sent)]:
        meter.feed(sent[at:cut])
        at = max(at, cut)
    assert meter.tokens() == usage
    assert meter.is_over
    assert meter.model == "claude-opus-5-5"


@given(st.text(), usages)
def test_an_answer_in_one_piece_counts_the_same(text: str, usage: dict[str, int]) -> None:
    one = step(say(text), usage=usage)
    whole = message(one, message_id="msg_1", model="claude-opus-5-5", asked_bytes=400)
    meter = Meter()
    meter.read_whole(json.dumps(whole).encode())
    assert meter.tokens() == usage


def test_a_stream_that_breaks_off_is_not_free() -> None:
    meter = Meter()
    meter.feed(stream("x" * 40_000, {"input_tokens": 7}, until="message_delta"))
    tokens = meter.tokens()
    assert tokens["input_tokens"] == 7
    assert 10_000 <= tokens["output_tokens"] <= 25_000
    assert not meter.is_over


def test_a_stream_that_never_began_costs_nothing() -> None:
    meter = Meter()
    meter.feed(b"event: ping\ndata: {}\n\nevent: message_sta")
    assert meter.tokens() == {}


@given(st.binary())
def test_no_bytes_break_it(junk: bytes) -> None:
    meter = Meter()
    for prefix in (b"event: message_start\ndata: ", b"event: message_delta\ndata: ", b""):
        meter.feed(prefix + junk + b"\n\n")
    meter.read_whole(junk)
    assert all(count >= 0 for count in meter.tokens().values())


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["type", "message", "usage", "model", "input_tokens"]), x
            )
        ),
    )
)
def test_no_json_breaks_it(said: object) -> None:
    meter = Meter()
    meter.feed(b"event: message_start\ndata: " + json.dumps(said).encode() + b"\n\n")
    meter.read_whole(json.dumps(said).encode())
    assert all(count >= 0 for count in meter.tokens().values())
