"""Whether a coding agent that died is started again: a pure function."""

from collections.abc import Sequence

from agent.claude.state import Crash

RESTARTS_MAX = 3
WINDOW_S = 600.0
FAST_S = 10.0
IDENTICAL_MAX = 3
"""So many equal ends within seconds of the start are one fault, not bad luck."""


def restart_after_s(crashes: Sequence[Crash]) -> float | str:
    """Return the seconds to wait before the next start, or the reason why there is none."""
    last = crashes[-1]
    recent = [crash for crash in crashes if last.at - crash.at <= WINDOW_S]
    fast = recent[-IDENTICAL_MAX:]
    same = {(crash.code, crash.tail) for crash in fast}
    if len(fast) == IDENTICAL_MAX and len(same) == 1 and all(c.lived_s < FAST_S for c in fast):
        return f"Claude Code ends at once, {IDENTICAL_MAX} times the same way{_why(last)}"
    if len(recent) > RESTARTS_MAX:
        return f"Claude Code ended {len(recent)} times within ten minutes{_why(last)}"
    return float(2 ** (len(recent) - 1))


def _why(crash: Crash) -> str:
    code = "" if crash.code is None else f" (exit status {crash.code})"
    return f"{code}: {crash.tail}" if crash.tail else f"{code}."
