"""What the scripted model says to a person who types anything at all. Pure, and honest about it."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bot.demo.script import Say, Step, say, step, use
from bot.demo.talk import Talk
from core.triage import read_plainly

COMPLETE = "mcp__samovar__complete_task"
ASK = "AskUserQuestion"
LOOK = "git log --oneline -3 && ls"
CONFESSION = (
    "I am a scripted model that shows how Samovar works; I understand nothing. "
    "Start it with ANTHROPIC_API_KEY to work with the real one."
)
QUESTION = "Where shall I write it down?"
CHOICES = ("NOTES.md", "TODO.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A task that the scripted model can really do.

    Attributes:
        match: Regular expression, searched in what the person said, upper or lower case.
        steps: Played one per answer, after a look around.
    """

    match: str
    steps: tuple[Step, ...]


def improvise(talk: Talk, recipes: Sequence[Recipe]) -> Step:
    """Return the next answer in a conversation that carries no script."""
    if talk.forced is not None:
        name, schema = talk.forced
        return step(use(name, **_fill(schema, talk.prompt)))
    if not talk.tools:
        return step(say(_without_tools(talk)))
    if talk.results and talk.results[-1].is_error:
        return step(say(f"That did not work, so I stop here. {CONFESSION}"))
    steps = _plan(talk, recipes)
    last = _afterwards(talk)
    return _with_additions(steps[talk.answered] if talk.answered < len(steps) else last, talk)


def _plan(talk: Talk, recipes: Sequence[Recipe]) -> list[Step]:
    """Return all answers that `talk.prompt` will get, as far as they are known by now."""
    if talk.prompt.rstrip().endswith("?"):
        return [step(say(f"You asked: {_title(talk.prompt)} {CONFESSION}"))]
    if "Bash" not in talk.tools:
        return [step(say(f"I was given no shell to work with. {CONFESSION}"))]
    look = step(say("I look at the repository first."), use("Bash", command=LOOK))
    for recipe in recipes:
        if re.search(recipe.match, talk.prompt, re.IGNORECASE):
            return [look, *recipe.steps]
    if "ask me" not in talk.prompt.lower() or ASK not in talk.tools:
        return [look, *_note(talk, "NOTES.md")]
    answer = talk.results[0].text if talk.results else ""
    chosen = next((file for file in CHOICES if file in answer), CHOICES[0])
    return [_ask(), look, *_note(talk, chosen)]


def _ask() -> Step:
    options = [{"label": file, "description": f"Add a line to {file}"} for file in CHOICES]
    question = {
        "question": QUESTION,
        "header": "File",
        "options": options,
        "multiSelect": False,
    }
    return step(use(ASK, questions=[question]))


def _note(talk: Talk, file: str) -> list[Step]:
    """Write the request down and commit it: the least that makes a pull request."""
    line, title = shlex.quote(f"- {_printable(talk.prompt)}"), _title(talk.prompt)
    command = (
        f"printf '%s\\n' {line} >> {file} && git add {file} "
        f"&& git commit -q -m {shlex.quote(f'Note: {title}')}"
    )
    write = step(say(f"I write the request into {file}."), use("Bash", command=command))
    summary = f"Wrote the request into {file}. {CONFESSION}"
    done = [step(use(COMPLETE, summary=summary))] if COMPLETE in talk.tools else []
    return [write, *done, step(say(f"The request stands in {file} now. {CONFESSION}"))]


def _afterwards(talk: Talk) -> Step:
    """Answer what Claude Code itself brings up, such as a hook that wants the task completed."""
    wanted = any("complete_task" in aside for aside in talk.asides)
    if wanted and COMPLETE in talk.tools - talk.used:
        return step(use(COMPLETE, summary=CONFESSION))
    return step(say(CONFESSION))


def _with_additions(last: Step, talk: Talk) -> Step:
    """Say at the end what was heard in between and not heeded."""
    if not talk.additions or not all(isinstance(block, Say) for block in last.blocks):
        return last
    heard = " ".join(f'"{_printable(text)}"' for text in talk.additions)
    more = f"While I worked you said: {heard} A script cannot turn round: say it again."
    said = [block.say for block in last.blocks if isinstance(block, Say)]
    return replace(last, blocks=(say("\n\n".join([*said, more])),))


def _without_tools(talk: Talk) -> str:
    """Answer Claude Code's own small calls: a title for the conversation, a topic."""
    if talk.schema is not None:
        return json.dumps(_fill(talk.schema, talk.prompt))
    if "json" in talk.system.lower():
        return json.dumps({"isNewTopic": True, "title": _title(talk.prompt)})
    return _title(talk.prompt) or CONFESSION


def _fill(schema: Mapping[str, object], text: str) -> dict[str, object]:
    """Return the plainest object that follows a JSON schema of one level."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {str(name): _value(form, text) for name, form in properties.items()}


def _value(form: object, text: str) -> object:
    form = form if isinstance(form, Mapping) else {}
    choices = form.get("enum")
    if isinstance(choices, list) and choices:
        return _choice(choices, text)
    plain: dict[str, object] = {"boolean": True, "integer": 1, "number": 1, "array": []}
    kind = str(form.get("type"))
    return {} if kind == "object" else plain.get(kind, _title(text))


def _choice(choices: list[object], text: str) -> object:
    """Choose nothing where that is allowed: who understands nothing must not guess."""
    if None in choices:
        return None
    is_question = text.rstrip().endswith("?") and "question" in choices
    return "question" if is_question else choices[0]


def _title(text: str) -> str:
    return read_plainly(text, ()).title if _printable(text) else ""


def _printable(text: str) -> str:
    """Return `text` on one line, without characters that a terminal would act on."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
