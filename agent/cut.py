"""Events that are too long for the link are cut, and say so."""

from dataclasses import replace

from core.wire import Json, SessionEvent, encode_body


def cut(event: SessionEvent, *, bytes_max: int) -> SessionEvent:
    """Return `event` with its long texts shortened until it fits, and `cut` in its data.

    `data["cut"]` is the size in bytes that the whole event had. When shortening texts is not
    enough (very many short ones) nothing else is left of the data; the coding agent's own journal
    on the node still has all of it.
    """
    size = len(encode_body(event).encode())
    chars_max = bytes_max // 2
    while chars_max >= 1024:
        data: Json = {key: _shorten(value, chars_max) for key, value in event.data.items()}
        shorter = replace(event, data={**data, "cut": size})
        if len(encode_body(shorter).encode()) <= bytes_max:
            return shorter
        chars_max //= 4
    return replace(event, data={"cut": size})


def _shorten(value: object, chars_max: int) -> object:
    if isinstance(value, str) and len(value) > chars_max:
        return f"{value[:chars_max]}\n[cut: {len(value) - chars_max} more characters]"
    if isinstance(value, dict):
        return {key: _shorten(item, chars_max) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shorten(item, chars_max) for item in value]
    return value
