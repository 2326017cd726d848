"""A step as the Messages API sends it: one JSON message, or the events of a stream. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from bot.demo.script import Block, Say, Step, Think, Use

SIGNATURE = "c2NyaXB0ZWQ="
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One server-sent event.

    Attributes:
        delay_s: Seconds of silence after it.
        is_piece: A piece of a block, which `cut_after` and `stall_after` count.
    """

    data: dict[str, object]
    delay_s: float = 0.0
    is_piece: bool = False

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return f"event: {self.data['type']}\ndata: {json.dumps(self.data)}\n\n".encode()


class Message(TypedDict):
    """A whole answer, in the fields of the Messages API."""

    id: str
    type: str
    role: str
    model: str
    content: list[dict[str, object]]
    stop_reason: str
    stop_sequence: None
    usage: dict[str, int]


def message(step: Step, *, message_id: str, model: str, asked_bytes: int) -> Message:
    """Return the whole answer as one message.

    Args:
        step: What to say.
        message_id: `msg_...`, unique; the ids of tool calls are made from it.
        model: The model that was asked for.
        asked_bytes: Size of the request, from which the input tokens are guessed, as if
            the vendor had nearly all of it in its cache.
    """
    blocks = [
        _whole(block, f"toolu_{message_id.removeprefix('msg_')}{index:02}")
        for index, block in enumerate(step.blocks)
    ]
    said = sum(len(json.dumps(block)) for block in blocks)
    usage = {
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": asked_bytes // BYTES_PER_TOKEN,
        "output_tokens": max(1, said // BYTES_PER_TOKEN),
    }
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": "tool_use" if any(isinstance(b, Use) for b in step.blocks) else "end_turn",
        "stop_sequence": None,
        "usage": usage | dict(step.usage),
    }


def frames(step: Step, whole: Message) -> Iterator[Frame]:
    """Yield the events that stream `whole`, which is `message(step, ...)`."""
    opening = {
        **whole,
        "content": [],
        "stop_reason": None,
        "usage": {**whole["usage"], "output_tokens": 1},
    }
    yield Frame(data={"type": "message_start", "message": opening})
    for index, (block, content) in enumerate(zip(step.blocks, whole["content"], strict=True)):
        yield Frame(data=_event("start", index, content_block=_opening(content)))
        for delta in _deltas(block):
            yield Frame(
                data=_event("delta", index, delta=delta),
                delay_s=block.delay_s if isinstance(block, Say) else 0.0,
                is_piece=True,
            )
        yield Frame(data=_event("stop", index))
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    tokens = {"output_tokens": whole["usage"]["output_tokens"]}
    yield Frame(data={"type": "message_delta", "delta": delta, "usage": tokens})
    yield Frame(data={"type": "message_stop"})


def _event(what: str, index: int, **more: object) -> dict[str, object]:
    return {"type": f"content_block_{what}", "index": index, **more}


def _whole(block: Block, tool_id: str) -> dict[str, object]:
    match block:
        case Say():
            return {"type": "text", "text": block.say}
        case Think():
            return {"type": "thinking", "thinking": block.think, "signature": SIGNATURE}
        case Use():
            return {"type": "tool_use", "id": tool_id, "name": block.use, "input": block.input}


def _opening(content: dict[str, object]) -> dict[str, object]:
    empty = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {name: empty.get(name, value) for name, value in content.items()} | {
        "type": content["type"]
    }


def _deltas(block: Block) -> Iterator[dict[str, object]]:
    match block:
        case Say():
            for piece in _cut(block.say, block.chunks):
                yield {"type": "text_delta", "text": piece}
        case Think():
            yield {"type": "thinking_delta", "thinking": block.think}
            yield {"type": "signature_delta", "signature": SIGNATURE}
        case Use():
            for piece in _cut(json.dumps(block.input), 2):
                yield {"type": "input_json_delta", "partial_json": piece}


def _cut(text: str, pieces: int) -> Iterator[str]:
    size = max(1, -(-len(text) // max(1, pieces)))
    for at in range(0, len(text), size):
        yield text[at : at + size]
