"""Which prompts were taken, which were written to which process: told apart by durable notes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from agent.claude.state import State
from agent.driver import Journal
from agent.errors import NodeError
from core.ids import SessionId

PROMPT_BYTES_MAX = 16 << 20


@dataclass(slots=True, kw_only=True)
class Prompt:
    """A prompt that was accepted.

    Attributes:
        number: Its place in the order of prompts.
        written: The start of Claude Code that it was written to, 0 while it must be written.
    """

    id: str
    number: int
    text: str
    written: int = 0


def check(text: str) -> None:
    """Refuse a prompt that cannot be given unchanged.

    Raises:
        NodeError: `prompt_invalid`.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise NodeError(
            "prompt_invalid", "The text holds half a character; write it anew."
        ) from error
    if not text.strip():
        raise NodeError("prompt_invalid", "The text is empty; say what should be done.")
    if size > PROMPT_BYTES_MAX:
        raise NodeError(
            "prompt_invalid", f"The text has {size} bytes, more than 16 MiB; say it shorter."
        )


class Prompts:
    """The prompts of one session, kept in its journal's notes."""

    def __init__(self, session: SessionId, journal: Journal) -> None:
        self._session = session
        self._journal = journal
        self._all: dict[str, Prompt] = {}

    def load(self, notes: Mapping[str, str]) -> None:
        """Take over what was noted before."""
        for key, value in notes.items():
            if key.startswith("prompt."):
                kept = json.loads(value)
                ident = key.removeprefix("prompt.")
                written = int(notes.get(f"written.{ident}", "0"))
                self._all[ident] = Prompt(
                    id=ident, number=kept["number"], text=kept["text"], written=written
                )

    async def add(self, ident: str, text: str) -> None:
        """Accept a prompt; one that is known stays as it is."""
        if ident in self._all:
            return
        number = len(self._all) + 1
        self._all[ident] = Prompt(id=ident, number=number, text=text)
        value = json.dumps({"number": number, "text": text})
        await self._journal.note(self._session, f"prompt.{ident}", value)

    def unwritten(self, state: State) -> list[Prompt]:
        """Return what must be written now, in order."""
        open_ = [p for p in self._all.values() if not p.written and p.id not in state.prompts]
        return sorted(open_, key=lambda prompt: prompt.number)

    def unseen(self, state: State) -> list[Prompt]:
        """Return what was written without any sign that it was taken."""
        return [
            prompt
            for prompt in self._all.values()
            if prompt.written and prompt.id not in state.prompts
        ]

    def open(self, state: State) -> list[Prompt]:
        """Return what is neither completed nor given up."""
        over = {"completed", "cancelled", "ambiguous", "lost"}
        return [prompt for prompt in self._all.values() if state.prompts.get(prompt.id) not in over]

    def unfinished(self, state: State) -> list[Prompt]:
        """Return what was written and neither completed nor given up."""
        return [prompt for prompt in self.open(state) if prompt.written]

    async def write(self, prompt: Prompt, *, start: int) -> None:
        """Note that a prompt is written to this start, or (0) that it must be written again."""
        await self._journal.note(self._session, f"written.{prompt.id}", str(start))
        prompt.written = start
