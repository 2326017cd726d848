"""The frames: what is written is read, what is not ours is refused, nothing else is raised."""

import json
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import wire
from core.wire import (
    ORDERS,
    Frame,
    FrameError,
    Message,
    Order,
    encode_body,
    encode_stored,
    frame,
    from_json,
    to_json,
)

KINDS = sorted([*get_args(Message), *ORDERS.values()], key=lambda kind: kind.__name__)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
SIMPLE = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
}
OBJECTS = st.dictionaries(
    st.text(), st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5)
)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)


def built(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of a message's class, or of one of its annotations."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: built(hints[field.name]) for field in fields(kind)})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return st.lists(built(arguments[0]), max_size=3).map(tuple)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is not None:
        return OBJECTS if arguments[1] is not str else st.dictionaries(st.text(), st.text())
    return SIMPLE[getattr(kind, "__supertype__", kind)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_message_is_read_as_it_was_written(kind: type[Message], data: st.DataObject) -> None:
    made = data.draw(built(kind))
    assert from_json(kind, json.loads(encode_body(made))) == made


@given(text=st.text() | JSON.map(json.dumps) | st.binary().map(lambda b: b.decode("latin-1")))
def test_anything_is_a_frame_or_a_frame_error(text: str) -> None:
    try:
        made = Frame.decode(text)
    except FrameError:
        return
    assert 0 <= made.seq < 2**63
    assert 0 <= made.ack < 2**63


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(body=JSON)
def test_any_body_is_read_or_is_a_frame_error(kind: type[Message], body: object) -> None:
    try:
        from_json(kind, body)
    except FrameError:
        return


@given(text=TEXTS)
def test_whatever_text_is_sent_every_encoder_can_take_it_afterwards(text: str) -> None:
    order = Order(id="o", object="o", fence=1, kind="k", body={"text": text})  # type: ignore[arg-type]
    for sent in (
        frame(order, seq=1).encode(),
        encode_stored("order", encode_body(order), seq=1, ack=0),
        json.dumps({"type": "order", "body": to_json(order), "seq": 1}),
    ):
        read = Frame.decode(sent)
        assert read.seq == 1
        encode_body(from_json(Order, read.body)).encode("utf-8")
        str(read.body["body"]["text"]).encode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "ping", "body": {}, "seq": -1}',
        '{"type": "ping", "body": {}, "seq": "1"}',
        '{"type": "ping", "body": {}, "seq": 1.5}',
        '{"type": "ping", "body": {}, "seq": true}',
        '{"type": "ping", "body": {}, "ack": null}',
        '{"type": "ping", "body": {}, "ack": 9223372036854775808}',
        '{"type": "ping", "body": {}, "ack": 1e999}',
        '{"type": 1, "body": {}}',
        '{"type": "ping"}',
        "[1]",
        "7",
        "[" * 100_000,
    ],
)
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(FrameError):
        Frame.decode(text)


def test_every_message_has_a_type_of_its_own() -> None:
    types = [kind.TYPE for kind in get_args(Message)]
    assert len(types) == len(set(types))
    assert set(wire.REPORTS) <= set(types)
