"""Time as a port, and every duration of the program with its unit."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Every duration, in seconds. Outer clocks are longer than inner ones.

    Attributes:
        lease_s: How long a replica may be silent before its work is taken over.
        beat_s: How often it renews.
        poll_s: Longest time between two looks at what is due.
        heartbeat_s: How often a node says that it lives.
        stale_s: Silence of a node after which nothing new is placed on it.
        lost_s: Silence of a node after which its work is given up.
        node_ready_s: From the request of a node to its link.
        container_s: One `devcontainer up`.
        workspace_s: From the order to a ready workspace, with all fall-backs.
        acknowledge_s: From the first prompt to the coding agent's receipt.
        run_soft_s: A run is asked to finish.
        run_hard_s: A run is ended, its work kept.
        check_s: All checks of a run.
        publish_s: From the last check to the pull request.
        stop_s: From a stop to the end of the coding agent.
        terminal_s: From the order to an open terminal, or to a closed one.
        save_s: From the order of a rescue copy to the copy on its machine; then, the longest time
            in which nothing of it comes.
        copy_s: How long a stopped workspace and a rescue copy are kept.
        copy_notice_s: How long before a stopped workspace goes its people are told.
        warm_s: How long a node and a workspace are kept without work.
        node_age_s: Oldest age of a bought node.
        git_token_s: Life of a git credential.
        enrolment_s: Life of a one-time enrolment token.
        sign_in_s: Life of a one-time sign-in link.
        browser_s: Life of a signed-in browser.
        enter_s: Life of a one-time link into a workspace, and of the pass that it becomes.
        guest_s: Life of a browser's cookie for one workspace.
        ticket_s: Life of a stream's ticket.
        reminders_s: When people are reminded of an open decision.
        silence_s: No event of a busy coding agent for so long asks for a look.
        triage_s: How long a small model may read a message.
        sweep_s: Period of the sweeps.

    Raises:
        ValueError: If a duration is not positive or two of them contradict each other.
    """

    lease_s: float = 15
    beat_s: float = 5
    poll_s: float = 1
    heartbeat_s: float = 15
    stale_s: float = 45
    lost_s: float = 300
    node_ready_s: float = 900
    container_s: float = 900
    workspace_s: float = 1800
    acknowledge_s: float = 120
    run_soft_s: float = 14400
    run_hard_s: float = 28800
    check_s: float = 1800
    publish_s: float = 600
    stop_s: float = 60
    terminal_s: float = 60
    save_s: float = 1800
    copy_s: float = 2592000
    copy_notice_s: float = 259200
    warm_s: float = 1800
    node_age_s: float = 86400
    git_token_s: float = 3600
    enrolment_s: float = 900
    sign_in_s: float = 900
    browser_s: float = 2592000
    enter_s: float = 60
    guest_s: float = 43200
    ticket_s: float = 60
    reminders_s: tuple[float, ...] = (3600, 86400)
    silence_s: float = 300
    triage_s: float = 3
    sweep_s: float = 30

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(number <= 0 for number in numbers):
                raise ValueError(f"clocks.{name} must be positive, not {value}")
        for shorter, longer, why in _ORDER:
            if getattr(self, shorter) >= getattr(self, longer):
                raise ValueError(
                    f"clocks.{shorter} ({getattr(self, shorter):g}) must be shorter than "
                    f"clocks.{longer} ({getattr(self, longer):g}): {why}"
                )


_ORDER = (
    ("beat_s", "lease_s", "a lease is renewed several times before it ends"),
    ("poll_s", "beat_s", "work is looked at more often than leases are renewed"),
    ("heartbeat_s", "stale_s", "a node may miss a beat"),
    ("stale_s", "lost_s", "a node is avoided before it is given up"),
    ("container_s", "workspace_s", "a failed build falls back within the workspace's time"),
    ("workspace_s", "run_soft_s", "a run begins with its workspace"),
    ("node_ready_s", "node_age_s", "a node lives longer than its boot"),
    ("acknowledge_s", "run_soft_s", "a prompt is acknowledged within the run"),
    ("run_soft_s", "run_hard_s", "a run is asked before it is ended"),
    ("run_hard_s", "node_age_s", "a node outlives the run on it"),
    ("save_s", "node_age_s", "what is on a node is saved before the node goes"),
    ("copy_notice_s", "copy_s", "people are told of the end before it comes"),
    ("warm_s", "copy_s", "what sleeps is kept longer than what is warm"),
    ("stop_s", "publish_s", "a stopped run still publishes what there is"),
    ("terminal_s", "lost_s", "a terminal is given up before its machine is"),
    ("enter_s", "guest_s", "a link becomes a cookie that outlives it"),
    ("guest_s", "browser_s", "a workspace is open no longer than the pages"),
    ("triage_s", "acknowledge_s", "reading a message is a small part of the wait"),
    ("sweep_s", "lost_s", "a lost node is noticed by a sweep"),
    ("workspace_s", "git_token_s", "a clone ends before its credential"),
    ("publish_s", "git_token_s", "a push ends before its credential"),
)
