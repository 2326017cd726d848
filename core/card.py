"""A card: what people see of a task in a thread, without a vendor's words."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from core.ids import DecisionId, RunId, SessionId, TaskId, TerminalId, WorkspaceId

StepMark = Literal["todo", "doing", "done", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the card: `Machine`, `Workspace`, `Agent`, `Checks`, `Pull request`.

    Attributes:
        text: What happens or happened: `warm node`, `building`, `3 files, +48 -12`.
        took_s: Seconds so far, or in all once it ended; None before it began.
        usual_s: Median of this project's own history; None when there is none.
    """

    name: str
    mark: StepMark
    text: str = ""
    took_s: float | None = None
    usual_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLine:
    """One measured command."""

    command: str
    ok: bool
    took_s: float
    tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of the last run.

    Attributes:
        headline: `PR #3 Fix rounding (draft)` or a sentence with the reason.
        says: What the coding agent says.
        measured: What we measured, as sentences.
        wait_s, work_s, checks_s: Where the time went.
    """

    outcome: str
    headline: str
    advice: str = ""
    says: str = ""
    measured: tuple[str, ...] = ()
    checks: tuple[CheckLine, ...] = ()
    added: int = 0
    removed: int = 0
    files: int = 0
    wait_s: float = 0.0
    work_s: float = 0.0
    checks_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An open or closed decision as people see it."""

    id: DecisionId
    kind: str
    title: str
    detail: str
    questions: tuple[dict[str, object], ...]
    is_open: bool
    answer: str = ""
    answered_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose terminal has the coding agent's conversation, or gets it once the agent is idle.

    Attributes:
        text: The same in words.
    """

    terminal_id: TerminalId
    by: str
    since: datetime
    is_waiting: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Everything about a task that a thread shows; also there as plain text.

    Attributes:
        state: The task's state.
        run_state: The live run's state, empty between runs.
        facts: `acme/web @ main`, `medium`, `asked by Ana`, `budget $3.00`.
        steps: Empty before the first run is placed.
        notes: Sentences that people should know, such as a recovered image.
        session_id: The coding agent's conversation, while it can be left to a terminal.
        holder: Who has it, or waits for it; None while it is the thread's.
        tokens_usd, machine_usd: What the task cost so far.
    """

    task_id: TaskId
    title: str
    state: str
    facts: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    run_id: RunId | None = None
    run_state: str = ""
    workspace_id: WorkspaceId | None = None
    position: int = 0
    notes: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    result: Result | None = None
    pull_url: str = ""
    page_url: str = ""
    tokens_usd: Decimal = Decimal(0)
    machine_usd: Decimal = Decimal(0)
    can_stop: bool = False
    session_id: SessionId | None = None
    holder: Holder | None = None
