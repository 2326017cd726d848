"""What was measured about a result, as data and as words. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.run import Outcome, Run
from core.task import Task
from core.wire import Checked, CheckResult, Collected, FileChange, from_json, to_json

_MENTION = re.compile(r"(?<![\w`/])@(?=\w)")
_TITLE_MAX = 120
_UNCHECKED = {Outcome.CANCELLED, Outcome.FAILED, Outcome.BLOCKED}
"""Ends that come before the checks."""


def measured_of(collected: Collected) -> dict[str, Any]:
    """Return what a run keeps of `collected`."""
    return to_json(collected)


def collected_in(measured: Mapping[str, Any] | None) -> Collected | None:
    """Return what was collected, None before it was."""
    return None if measured is None else from_json(Collected, dict(measured))


def checks_in(measured: Mapping[str, Any] | None) -> tuple[CheckResult, ...] | None:
    """Return the results of the checks, None when none ran."""
    raw = (measured or {}).get("checks")
    return None if raw is None else from_json(Checked, {"commit": "", "results": raw}).results


def size_of(files: Sequence[FileChange]) -> tuple[int, int]:
    """Return the added and the removed lines."""
    return sum(f.added for f in files), sum(f.removed for f in files)


def measured_lines(run: Run) -> tuple[str, ...]:
    """Say what was measured apart from the checks, one sentence a fact."""
    found = collected_in(run.measured)
    if found is None:
        return ()
    lines = [f"{found.commits} commit{'s' if found.commits != 1 else ''} at {found.head[:7]}"]
    lines += found.left
    if checks_in(run.measured) is None and run.verdict not in _UNCHECKED:
        lines.append("no checks are set for this project")
    return tuple(lines)


def _all_lines(run: Run) -> tuple[str, ...]:
    checks = checks_in(run.measured) or ()
    return (*measured_lines(run), *(check_line(check) for check in checks))


def check_line(check: CheckResult) -> str:
    """Say how one check went."""
    if check.exit_code == -1:
        return f"`{check.command}` did not end in {check.took_s:.0f} s"
    how = "passed" if check.exit_code == 0 else f"failed with exit code {check.exit_code}"
    return f"`{check.command}` {how} ({_seconds(check.took_s)})"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def all_passed(run: Run) -> bool:
    """Whether no check failed; also when there are none."""
    return all(check.exit_code == 0 for check in checks_in(run.measured) or ())


def quiet(text: str) -> str:
    """Return words from outside so that they address nobody."""
    return _MENTION.sub("@\u200b", text)


def pull_title(task: Task) -> str:
    """Return the title of the task's pull request."""
    return quiet(task.title)[:_TITLE_MAX]


def pull_body(task: Task, run: Run, *, asked_by: str, page_url: str) -> str:
    """Return the description of the task's pull request, in Markdown."""
    says = quiet(run.summary).strip() or "(nothing)"
    parts = [
        f"Asked for by {quiet(asked_by)} as [{task.id}]({page_url}).",
        "> " + quiet(task.prompt).strip().replace("\n", "\n> "),
        "**The agent says**\n\n> " + says.replace("\n", "\n> "),
        "**Measured**\n\n" + "\n".join(f"- {line}" for line in _all_lines(run)),
    ]
    parts += [
        f"Last lines of `{check.command}`:\n\n{_fence(check.tail)}"
        for check in checks_in(run.measured) or ()
        if check.exit_code != 0
    ]
    return "\n\n".join(parts)[:60000] + f"\n\n<!-- samovar:{task.id} -->\n"


def _fence(text: str) -> str:
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}\n{text}\n{ticks}"
