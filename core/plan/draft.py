"""A plan of a run while it is made: collects changes, writes each noun once."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from core.clocks import Clocks
from core.decision import Decision, DecisionState
from core.ids import NodeId, RunId, SessionId, ThreadId
from core.message import Post, PostKind
from core.node import Link, Node
from core.order import NodeOrder, order
from core.place import Placement
from core.plan.leaving import leave
from core.plan.names import stop_name
from core.plan.placing import claimed
from core.plan.step import Planned, told
from core.ports.store import Change, Insert, Touch, Update, Wake
from core.project import Project
from core.reasons import reason
from core.rescue import RescueCopy
from core.run import Outcome, Run, RunState
from core.session import AgentSession, Prompt, SessionState
from core.task import Task, TaskState
from core.terminal import Terminal, TerminalState
from core.wire import OrderBody, SendPrompt, StopSession
from core.workspace import Workspace, WorkspaceState

_TASK_ENDS = {
    Outcome.CANCELLED: TaskState.CANCELLED,
    Outcome.FAILED: TaskState.FAILED,
    Outcome.BLOCKED: TaskState.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """All that a plan for a run may look at, read in one go.

    Attributes:
        session: The run's agent session with its newest events folded in.
        earlier: The session that this one continues, if the workspace had one.
        terminal: The live one of the run's agent session, if it has one.
        prompts, decisions: Of this run, oldest first, with the newest events folded in.
        folded: Rows that the folding changed; opened: decisions that it found.
        orders: Of this run, and the stop of the session before it, by id.
        warnings: What the thread must be told, found by the folding, each with its name.
        placement: Only while the run is being placed.
        new_node: A node that may be asked for if none has room; None when none may.
        nodes_max: How many nodes of that supplier there may be.
        model: The coding agent's model.
        surface: Where the task's thread is.
        installation: Whose names these are.
        copies: Of the workspace, oldest first.
    """

    task: Task
    run: Run
    project: Project
    now: datetime
    fence: int
    clocks: Clocks
    model: str
    surface: str
    installation: str = ""
    workspace: Workspace | None = None
    node: Node | None = None
    link: Link | None = None
    session: AgentSession | None = None
    earlier: AgentSession | None = None
    terminal: Terminal | None = None
    prompts: tuple[Prompt, ...] = ()
    decisions: tuple[Decision, ...] = ()
    folded: tuple[AgentSession | Prompt | Decision, ...] = ()
    opened: tuple[Decision, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    heard: bool = False
    orders: dict[str, NodeOrder] = field(default_factory=dict)
    placement: Placement | None = None
    new_node: Node | None = None
    nodes_max: int = 1
    copies: tuple[RescueCopy, ...] = ()


class Draft:
    """Changes to a run and what belongs to it, in the making."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self.run = view.run
        self.task = view.task
        self.is_owed_a_turn = any(prompt.state == "queued" for prompt in view.prompts)
        """Whether the coding agent still has words to answer."""
        self._changes: list[Change] = []
        self._new: dict[str, Decision] = {decision.id: decision for decision in view.opened}
        self._next: dict[str, AgentSession | Prompt | Decision | Workspace | Terminal] = {}
        for noun in view.folded:
            self.put(noun)
            if isinstance(noun, Decision):
                self._tell_of_withdrawn(noun)
        for name, text in view.warnings:
            self.say("reply", name, text)

    @property
    def now(self) -> datetime:
        """The time of this look."""
        return self.view.now

    @property
    def workspace(self) -> Workspace | None:
        """The run's workspace, with what this look changed of it."""
        known = self.view.workspace
        if known is None:
            return None
        return cast("Workspace", self._next.get(f"Workspace:{known.id}", known))

    def add(self, *changes: Change) -> None:
        """Write these too."""
        self._changes += changes

    def put(self, noun: AgentSession | Prompt | Decision | Workspace | Terminal) -> None:
        """Write the next value of a row; the last one counts."""
        if noun.id in self._new and isinstance(noun, Decision):
            self._new[noun.id] = noun
        else:
            self._next[f"{type(noun).__name__}:{noun.id}"] = noun

    def set(self, **values: Any) -> None:
        """Replace values of the run."""
        self.run = replace(self.run, **values)

    def deadline(self, seconds: float) -> datetime:
        """Return the time `seconds` from now."""
        return self.now + timedelta(seconds=seconds)

    def to(self, state: RunState, **values: Any) -> None:
        """Move the run, and the task where people see the difference."""
        marks = {str(state): self.now.isoformat(), **(self.run.marks or {})}
        self.run = self.run.moved(state, at=self.now, marks=marks, **values)
        self.tell(f"run.{state}", code=self.run.code)
        if state is RunState.ASKING and self.task.state is TaskState.ACTIVE:
            self._move_task(TaskState.WAITING)
        elif state is not RunState.ENDED and self.task.state is TaskState.WAITING:
            self._move_task(TaskState.ACTIVE)

    def _move_task(self, state: TaskState) -> None:
        self.task = self.task.moved(state, at=self.now)
        self.tell(f"task.{state}", about=f"task:{self.task.id}")

    def tell(self, kind: str, *, about: str = "", **data: object) -> None:
        """Write a fact about the run, or about something of its own."""
        subject = about or f"run:{self.run.id}"
        self.add(told(kind, subject, at=self.now, task_id=self.task.id, run_id=self.run.id, **data))

    def say(self, kind: PostKind, what: str, text: str) -> None:
        """Owe the thread a new message that mentions the asker, once."""
        thread = ThreadId(self.task.thread)
        post = Post(
            key=f"{thread}/{kind}/{what}",
            lane=thread,
            surface=self.view.surface,
            kind=kind,
            state="pending",
            created_at=self.now,
            task_id=self.task.id,
            text=text,
            mention=self.task.asked_by,
        )
        self.add(Insert(post, once=True))

    def order(self, name: str, body: OrderBody, *, node: NodeId) -> NodeOrder | None:
        """Make sure that the order is written; return it once it is answered."""
        known = self.view.orders.get(name)
        if known is not None:
            return None if known.is_open else known
        new = order(
            body,
            id=name,
            node=node,
            subject=("run", self.run.id),
            fence=self.view.fence,
            at=self.now,
        )
        self.add(Insert(new, once=True))
        return None

    def tried(self, name: str, body: OrderBody, *, node: NodeId, times: int) -> NodeOrder | None:
        """Give an order up to `times` times; return its success or its last failure."""
        answer = None
        for number in range(1, times + 1):
            answer = self.order(f"{self.run.id}/{name}/{number}", body, node=node)
            if answer is None or answer.ok:
                return answer
        return answer

    def send_prompts(
        self,
        session_id: SessionId,
        node_id: NodeId,
        *,
        is_idle: bool = False,
        is_away: bool = False,
    ) -> None:
        """Order every prompt that may go now; say of each that failed that it is lost.

        None goes while the conversation `is_away` in a terminal.
        """
        for prompt in self.view.prompts:
            may_go = not is_away and (is_idle or not prompt.when_idle)
            if prompt.state == "pending" and may_go:
                sent = replace(prompt, state="sent", session_id=session_id)
                self.put(sent)
                body = SendPrompt(session=session_id, prompt=prompt.id, text=prompt.text)
                self.order(f"prompt/{prompt.id}", body, node=node_id)
                self.is_owed_a_turn = True
            elif prompt.state == "sent":
                self._receipt(prompt)

    def _receipt(self, prompt: Prompt) -> None:
        answer = self.view.orders.get(f"prompt/{prompt.id}")
        if answer is not None and answer.ok is False:
            self.put(replace(prompt, state="lost"))
            self.say("reply", prompt.id, f"Your message did not arrive: {answer.text}")
        else:
            self.is_owed_a_turn = True

    def claim_room(self) -> None:
        """Write the node that was chosen, so that two runs never take the same room."""
        placement = self.view.placement
        if placement is not None and placement.node is not None:
            self.add(claimed(placement.node, at=self.now))

    def finish(self, verdict: Outcome | None, code: str = "", text: str = "") -> None:
        """Wind the run down: what was done is collected and published before it ends."""
        self._withdraw_questions()
        self._close_terminal()
        self.to(
            RunState.CHECKING,
            verdict=verdict,
            code=code,
            reason=reason(code, text) if code else "",
            deadline_at=self.deadline(self.view.clocks.stop_s + self.view.clocks.check_s),
        )

    def _withdraw_questions(self) -> None:
        for decision in self.view.decisions:
            if decision.state is DecisionState.OPEN:
                over = decision.moved(DecisionState.WITHDRAWN, at=self.now)
                self.put(over)
                self._tell_of_withdrawn(over)

    def _close_terminal(self) -> None:
        """End the terminal that has the conversation, or waits for it."""
        terminal = self.view.terminal
        if terminal is not None and terminal.state is not TerminalState.CLOSING:
            self.put(terminal.moved(TerminalState.CLOSING, at=self.now))
            self.tell("terminal.closing", about=f"terminal:{terminal.id}")
            self.add(Wake("terminal", terminal.id))

    def _tell_of_withdrawn(self, decision: Decision) -> None:
        self.tell("decision.withdrawn", about=f"decision:{decision.id}")

    def end(self, outcome: Outcome, code: str = "", text: str = "", *, more: str = "") -> None:
        """End the run for good, the task with it, and queue what was said too late.

        `text` is said where we have no sentence of our own for `code`, `more` in any case.
        """
        why = f"{reason(code, text) if code else text} {more}".strip()
        self._withdraw_questions()
        self._close_terminal()
        self.to(
            RunState.ENDED,
            verdict=outcome,
            code=code,
            reason=why,
            ended_at=self.now,
            deadline_at=None,
        )
        self._move_task(_TASK_ENDS.get(outcome, TaskState.DONE))
        self._release()
        self._carry_over(is_cancelled=outcome is Outcome.CANCELLED)
        is_stop = outcome in {Outcome.FAILED, Outcome.BLOCKED}
        words = f"{self._pull(outcome)}\n\n{why or self.run.summary}".strip()
        self.say("stopped" if is_stop else "end", self.run.id, words)
        self.add(Wake("admission", "all"))

    def _pull(self, outcome: Outcome) -> str:
        """Say where the pull request is, if that is what came of the run."""
        if outcome is not Outcome.PULL_REQUEST:
            return ""
        ready = "open as a draft" if self.task.pull_draft else "ready"
        return f"Pull request #{self.task.pull_number} is {ready}: {self.task.pull_url}"

    def _release(self) -> None:
        """Let go of the workspace: it stays for a while, unless it was never ready."""
        workspace, session = self.workspace, self.view.session
        if session is not None and self.run.node_id is not None:
            # Durable: a machine that comes back stops it, and the next run waits for that.
            stop = StopSession(session=session.id)
            self.order(stop_name(self.run.id), stop, node=self.run.node_id)
        if session is not None:
            ended = session.ended or "The run is over."
            self.put(replace(session, state=SessionState.ENDED, ended=ended))
        keep = self.deadline(self.view.clocks.warm_s)
        if self.run.chat_in is not None:
            self._leave(keep)
        if workspace is None or workspace.run_id != self.run.id:
            return
        is_new = workspace.state in {WorkspaceState.REQUESTED, WorkspaceState.BUILDING}
        if is_new and not workspace.container:
            workspace, more = leave(
                workspace, self.view.copies, "slept", at=self.now, clocks=self.view.clocks
            )
            about = f"workspace:{workspace.id}"
            self.tell(f"workspace.{workspace.state}", about=about, code=self.run.code)
            self.add(*more)
        if workspace.state is not WorkspaceState.STOPPED:
            workspace = replace(workspace, keep_until=keep)
        self.put(replace(workspace, run_id=None))
        self.add(Wake("workspace", workspace.id))

    def _leave(self, keep: datetime) -> None:
        """Let the workspace of a chat stay for a while; whoever else works in it keeps it."""
        workspace = self.workspace
        if workspace is None:
            return
        if workspace.state is WorkspaceState.READY and workspace.keep_until is not None:
            self.put(replace(workspace, keep_until=max(keep, workspace.keep_until)))
        self.add(Wake("workspace", workspace.id))

    def _carry_over(self, *, is_cancelled: bool) -> None:
        """Say of every prompt what became of it; unsent ones belong to the next run.

        They start it, unless this one never got as far as a coding agent: the next would not
        either, before somebody says so.
        """
        next_run = RunId(f"{self.task.id}.{self.task.runs + 1}")
        is_waiting = False
        for prompt in self.view.prompts:
            if prompt.state == "sent":
                self.put(replace(prompt, state="ambiguous"))
            elif prompt.state == "pending" and is_cancelled and self._was_stopped(prompt):
                self.put(replace(prompt, state="cancelled"))
            elif prompt.state == "pending":
                is_waiting = self.run.started_at is not None
                self.put(replace(prompt, run_id=next_run, when_idle=False))
        if is_waiting:
            self._move_task(TaskState.QUEUED)
            self.add(Wake("task", self.task.id))

    def _was_stopped(self, prompt: Prompt) -> bool:
        """Whether a prompt was said before the stop; what comes after it is meant to be done."""
        stopped_at = (self.run.marks or {}).get(RunState.CHECKING)
        return stopped_at is None or prompt.created_at <= datetime.fromisoformat(stopped_at)

    def planned(self, due_in_s: float | None) -> Planned:
        """Return the plan; the run and the task are written once each, if they changed."""
        changes: list[Change] = [Insert(decision, once=True) for decision in self._new.values()]
        changes += [Update(noun) for noun in self._next.values()]
        changes += [Update(self.run)] * (self.run != self.view.run)
        changes += [Update(self.task)] * (self.task != self.view.task)
        changes += self._changes
        if changes:
            changes.append(Touch(self.task.id))
        return Planned(changes=tuple(changes), due_in_s=due_in_s)
