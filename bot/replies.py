"""Every sentence that we say to people in threads, apart from why a run ended."""

from collections.abc import Sequence

from core.card import Card, CheckLine, Step
from core.project import Project

_MARKS = {
    "todo": "·",
    "doing": "…",
    "done": "✓",
    "warning": "!",
    "failed": "✗",
    "skipped": "-",
}
NOTHING_TO_STOP = "Nothing is running here. Reply with what you want changed."


def which_project(projects: Sequence[Project]) -> str:
    """Ask for the project of a request that names none."""
    if not projects:
        return (
            "No project is set up yet. An administrator adds one under [[projects]] in the "
            "configuration file."
        )
    names = ", ".join(f"`{project.id}` ({project.repository})" for project in projects)
    return f"Which project is this for? Reply with its name: {names}."


def unknown_project(name: str, projects: Sequence[Project]) -> str:
    """Say that a project does not exist, and which do."""
    if not projects:
        return which_project(projects)
    known = "There is" if len(projects) == 1 else "There are"
    return f"There is no project `{name}`. {known}: {', '.join(p.id for p in projects)}."


def not_allowed(verb: str) -> str:
    """Say that the person's role does not let them do it."""
    if verb == "manage":
        return "You may not manage here. Only administrators may: ask one of them."
    return f"You may not {verb} here. Ask an administrator to make you a member."


def answered_before(by: str, answer: str) -> str:
    """Say that somebody was first."""
    return f"{by} has answered already: {answer}."


def withdrawn(title: str) -> str:
    """Say that a question went away before somebody answered it."""
    return f"It is too late to answer: nobody needs an answer to “{title}” any more."


def no_such(thing: str, name: str) -> str:
    """Say that something does not exist."""
    return f"There is no {thing} {name}."


def card_text(card: Card) -> str:
    """Return the whole card in plain words: for screen readers, notifications and terminals."""
    lines = [f"{card.task_id} · {card.title}", " · ".join(card.facts)]
    if card.position:
        lines.append(f"Waiting, number {card.position} in the queue.")
    lines += [_step_line(step) for step in card.steps]
    lines += list(card.notes)
    for question in card.questions:
        if question.is_open:
            lines.append(f"Question: {question.title}")
    if card.result is not None:
        lines.append(card.result.headline)
        lines += [text for text in (card.result.advice, card.pull_url) if text]
        if card.result.says:
            lines.append(f"The agent says: {card.result.says}")
        lines += [f"Measured: {line}" for line in card.result.measured]
        lines += [_check_line(check) for check in card.result.checks]
    return "\n".join(lines)


def _check_line(check: CheckLine) -> str:
    how = "passed" if check.ok else "failed"
    return f"Measured: `{check.command}` {how}, {seconds(check.took_s)}"


def _step_line(step: Step) -> str:
    took = "" if step.took_s is None else f", {seconds(step.took_s)}"
    usual = f" (usually {seconds(step.usual_s)})" if step.usual_s and step.mark == "doing" else ""
    text = f" {step.text}" if step.text else ""
    return f"  {_MARKS[step.mark]} {step.name}:{text}{took}{usual}"


def seconds(value: float) -> str:
    """Return a duration as people say it: `0.4 s`, `38 s`, `7 m 12 s`."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"


def away(node: str, error: str) -> str:
    """Return what is said when something is on a machine that cannot be asked."""
    return f"It is on {node}, which does not answer ({error}). Try again in a moment."


def not_in_checkout(path: str) -> str:
    """Return what is said of a file outside of the repository's folder."""
    return f"{path:.200} is not in the workspace's checkout. Open a terminal to look at it."


TOO_MUCH = "That is too much to show here. Open a terminal to look at it."
