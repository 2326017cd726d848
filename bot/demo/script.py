"""What a scripted model says: a list of steps, written by tests and carried in the prompt itself.

A prompt may hold its script between `<<` and `>>` as JSON. The model plays one step per answer:
the first answer after the prompt is step 0, the answer after the first tool result step 1, ...
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace


class ScriptError(ValueError):
    """A prompt holds something between `<<` and `>>` that is no script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """A text block.

    Attributes:
        chunks: Into how many pieces the stream cuts it.
        delay_s: Seconds of silence after each piece.
    """

    say: str
    chunks: int = 1
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Think:
    """A thinking block."""

    think: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A tool call."""

    use: str
    input: Mapping[str, object]


Block = Say | Think | Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer of the model, and how it goes wrong.

    Attributes:
        blocks: What it says once nothing goes wrong any more.
        status: Answer with this HTTP status and an error body instead.
        error: The `error.type` of that body.
        message: The `error.message` of that body.
        retry_after_s: Its `retry-after` header.
        cut_after: Drop the connection after so many pieces; 0 before the first byte.
        stall_after: Stay silent for ever after so many pieces; 0 before the first byte.
        times: How often it goes wrong before it works; None for ever.
        ttfb_s: Seconds before the first byte.
        headers: More headers of the answer, whatever it is.
        usage: Tokens by kind in the vendor's words, in place of those counted from the texts.
    """

    blocks: tuple[Block, ...] = ()
    status: int | None = None
    error: str = "api_error"
    message: str = "The script says so."
    retry_after_s: float | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    times: int | None = None
    ttfb_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)

    def healed(self) -> "Step":
        """Return this step with nothing going wrong."""
        return replace(self, status=None, cut_after=None, stall_after=None)


def say(text: str, *, chunks: int = 1, delay_s: float = 0.0) -> Say:
    """Say `text`."""
    return Say(say=text, chunks=chunks, delay_s=delay_s)


def think(text: str) -> Think:
    """Think `text`."""
    return Think(think=text)


def use(name: str, **arguments: object) -> Use:
    """Call the tool `name`: `use("Bash", command="ls")`."""
    return Use(use=name, input=arguments)


def step(
    *blocks: Block,
    status: int | None = None,
    error: str = "api_error",
    message: str = "The script says so.",
    retry_after_s: float | None = None,
    cut_after: int | None = None,
    stall_after: int | None = None,
    times: int | None = None,
    ttfb_s: float = 0.0,
    headers: Mapping[str, str] | None = None,
    usage: Mapping[str, int] | None = None,
) -> Step:
    """Answer with `blocks`; the other arguments are those of `Step`."""
    return Step(
        blocks=blocks,
        status=status,
        error=error,
        message=message,
        retry_after_s=retry_after_s,
        cut_after=cut_after,
        stall_after=stall_after,
        times=times,
        ttfb_s=ttfb_s,
        headers=headers or {},
        usage=usage or {},
    )


def prompt(text: str, steps: Sequence[Step]) -> str:
    """Return `text` with its script, to be sent as a person's message."""
    return f"{text} <<{json.dumps([_plain(asdict(one)) for one in steps])}>>"


def find_script(text: str) -> tuple[Step, ...] | None:
    """Return the last script in `text`, None if there is none.

    Raises:
        ScriptError: If what stands between `<<` and `>>` is no script.
    """
    found: tuple[Step, ...] | None = None
    at = text.find("<<[")
    while at >= 0:
        try:
            raw, end = json.JSONDecoder().raw_decode(text, at + 2)
            found = tuple(_step(one) for one in raw)
        except (ValueError, TypeError, AttributeError) as error:
            raise ScriptError(f"no script at character {at}: {error}") from error
        at = text.find("<<[", end)
    return found


def _plain(step: dict[str, object]) -> dict[str, object]:
    """Leave out what has its default, so that scripts stay readable in a chat page."""
    default = asdict(Step())
    return {name: value for name, value in step.items() if value != default[name]}


def _step(raw: Mapping[str, object]) -> Step:
    fields = dict(raw)
    blocks = fields.pop("blocks", ())
    if not isinstance(blocks, Sequence):
        raise TypeError("blocks is a list")
    return Step(blocks=tuple(_block(one) for one in blocks), **fields)  # type: ignore[arg-type]


def _block(raw: Mapping[str, object]) -> Block:
    kinds: dict[str, type[Block]] = {"say": Say, "think": Think, "use": Use}
    for name, kind in kinds.items():
        if name in raw:
            return kind(**raw)  # type: ignore[arg-type]
    raise TypeError(f"a block says, thinks or uses: {sorted(raw)}")
