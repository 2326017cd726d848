"""Random histories of runs in a small world, with the real reconcilers and nothing outside.

The world keeps records as the database does (versions, `once`, limits, wake-ups), so a history
also finds a plan that waits for a wake-up which nobody sends.
"""

import hashlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.memory.files import MemoryFiles
from adapters.memory.triage import PlainTriage
from bot.conversation import Conversation
from bot.grants import StoredGrants
from core.decision import Decision, DecisionState
from core.errors import ConflictError, NotFoundError, QuotaError, RefusedError, UnavailableError
from core.event import Event
from core.ids import PersonId, ThreadId
from core.limits import Limits
from core.message import Post, Said
from core.node import Link, Node
from core.order import NodeOrder
from core.ports.forge import Pull, PullDraft
from core.ports.grants import Grant
from core.ports.store import Change, Insert, Look, Tell, Touch, Update, Wake
from core.ports.work import Claim
from core.project import Project, RepoRef
from core.reconcile.placing import Machines
from core.reconcile.runs import RunReconciler
from core.reconcile.tasks import AdmissionReconciler, TaskReconciler
from core.reconcile.workspaces import WorkspaceReconciler
from core.rescue import RescueCopy
from core.run import Outcome, Run, RunState
from core.session import AgentSession, Prompt
from core.task import Task
from core.wire import Collected, Saved, SessionEvent, to_json
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import CLOCKS, a_link, a_node, a_project, at

PEOPLE = ["ana", "ben"]
_AT_REST = {WorkspaceState.STOPPED, WorkspaceState.GONE}
STATEFUL = (Run, Task, Workspace, Node, Decision)
WORDS = st.sampled_from(
    ["Fix the cart.", "Also the till", "then rest. queue", "stop", "yes", "no", "!aside hm"]
)


class World:
    """The records, the node, the code host and the time. A `Store`, a `Clock` and a `Forge`."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.rows: dict[tuple[type, str], Any] = {}
        self.due: dict[tuple[str, str], float] = {}
        self.told: list[Event] = []
        self.journal: dict[str, list[SessionEvent]] = {}
        self.numbers = count(1)
        self.fences = count(1)
        self.pulls: dict[str, Pull] = {}
        self.refusals: list[Exception] = []
        self.conflicts = 0
        self.is_node_silent = False
        self.pushed: set[str] = set()
        self.ends: dict[str, Run] = {}
        self.dead: set[str] = set()
        self.files = MemoryFiles()
        self.on_node: dict[str, bytes] = {}

    # Clock and link

    def now(self) -> datetime:
        return at(self.elapsed)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a look never sleeps")

    def pass_time(self, seconds: float) -> None:
        self.elapsed += seconds
        if not self.is_node_silent:
            self.rows[Link, "node-1"] = a_link(seen_at=self.now())

    # Store

    def all(self, kind: type) -> list[Any]:
        return [noun for (of, _), noun in self.rows.items() if of is kind]

    async def get(self, kind: type, key: str) -> Any:
        if (kind, key) not in self.rows:
            raise NotFoundError(f"no {kind.__name__} {key}")
        return self.rows[kind, key]

    async def find(
        self, kind: type, /, *, limit: int | None = None, newest_first: bool = False, **equal: Any
    ) -> Sequence[Any]:
        found = [noun for noun in self.all(kind) if matches(noun, tuple(equal.items()))]
        return (found[::-1] if newest_first else found)[:limit]

    async def snapshot(self, look: Look[Any]) -> Any:
        return await look(self)

    async def next_number(self, name: str) -> int:
        return next(self.numbers)

    async def session_events(
        self, session_id: str, *, after: int, limit: int
    ) -> Sequence[SessionEvent]:
        return [one for one in self.journal.get(session_id, []) if one.offset > after][:limit]

    async def commit(self, *changes: Change, claim: Claim | None = None) -> None:
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("somebody wrote first")
        before, due, told = dict(self.rows), dict(self.due), list(self.told)
        try:
            for change in changes:
                self._apply(change)
            check_commit(before, changes)
        except Exception:
            self.rows, self.due, self.told = before, due, told
            raise

    def _apply(self, change: Change) -> None:
        match change:
            case Insert():
                self._insert(change)
            case Update():
                kind, key = type(change.noun), key_of(change.noun)
                if self.rows[kind, key].version != change.noun.version:
                    raise ConflictError(f"{kind.__name__} {key}")
                self.rows[kind, key] = replace(change.noun, version=change.noun.version + 1)
                self._check(change)
            case Tell():
                self.told.append(change.event)
            case Wake():
                self.wake(change.kind, change.key, change.in_s)
            case Touch():
                assert (Task, change.task_id) in self.rows

    def _insert(self, change: Insert) -> None:
        kind, key = type(change.noun), key_of(change.noun)
        if (kind, key) in self.rows:
            if not change.once:
                raise ConflictError(f"{kind.__name__} {key}")
            return
        self.rows[kind, key] = change.noun
        self._check(change)

    def _check(self, change: Insert | Update) -> None:
        for limit in change.limits:
            known = self.all(type(change.noun))
            if sum(matches(noun, limit.where) for noun in known) > limit.number:
                raise QuotaError("a limit is reached", code=limit.code)

    def wake(self, kind: str, key: str, in_s: float = 0.0) -> None:
        self.due[kind, key] = min(self.due.get((kind, key), 1e18), self.elapsed + in_s)

    # Forge

    async def open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        if self.refusals:
            raise self.refusals.pop()
        assert draft.head in self.pushed, "a pull request needs a branch"
        if draft.head not in self.pulls:
            number = len(self.pulls) + 1
            self.pulls[draft.head] = Pull(
                number=number, url=f"http://forge/{number}", state="open", draft=draft.draft,
                head=draft.head, head_sha="b" * 40, base=draft.base, commits=1, additions=1,
                deletions=0, changed_files=1,
            )  # fmt: skip
        return self.pulls[draft.head]

    # Node

    def answer(self, order: NodeOrder, *, ok: bool, commits: int = 1) -> None:
        """Answer an open order, as the store does it."""
        result = self._done(order, commits) if ok else None
        if order.kind == "stop_session" and ok:
            self.dead.add(order.body["session"])
        self.rows[NodeOrder, order.id] = replace(
            order,
            ok=ok,
            result=result,
            code="" if ok else f"{order.kind}_broke",
            text="" if ok else "It broke. Try again.",
            answered_at=self.now(),
        )
        self.wake(order.subject_kind, order.subject)

    def _done(self, order: NodeOrder, commits: int) -> dict[str, Any]:
        body = order.body
        match order.kind:
            case "create_workspace":
                return {
                    "workspace": body["workspace"],
                    "attempt": body["attempt"],
                    "container": "c",
                    "user": "dev",
                    "folder": "/w",
                    "base": "main",
                    "base_commit": "a" * 40,
                    "token_hash": "h",
                }
            case "save_workspace":
                content = f"all of {body['workspace']}".encode()
                name = hashlib.sha256(content).hexdigest()
                self.on_node[name] = content
                saved = Saved(
                    sha256=name,
                    size_bytes=len(content),
                    branch="b",
                    head="b" * 40,
                    base_commit="a" * 40,
                )
                return to_json(saved)
            case "drop_copy":
                self.on_node.pop(body["sha256"], None)
            case "delete_workspace":
                self.is_kept(body["workspace"])
            case "collect":
                found = Collected(
                    head="b" * 40, base_commit="a" * 40, remote="", commits=commits, bundle="k"
                )
                return to_json(found)
            case "run_checks":
                line = {"command": "make", "exit_code": 1, "took_s": 1.0, "tail": "boom"}
                return {"commit": "b" * 40, "results": [line]}
            case "push":
                self.pushed.add(body["branch"])
                return {"commit": body["commit"], "branch": body["branch"]}
        return {}

    def is_kept(self, workspace: str) -> None:
        """G4: what was ready once goes after its copy is in the file store, its row beside it."""
        if self.rows[Workspace, workspace].base_commit:
            copies = [one for one in self.all(RescueCopy) if one.workspace_id == workspace]
            assert any(one.sha256 in self.files.files for one in copies), "g4: nothing is left"

    async def stream(
        self, node: str, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        if self.is_node_silent:
            raise UnavailableError("Node", "it is not connected")
        if name not in self.on_node:
            raise NotFoundError(f"no {what} {name}")
        yield self.on_node[name][offset_bytes:]

    def emit(self, session: AgentSession, kind: str, /, **data: Any) -> None:
        """Let a coding agent do something; its run is woken, as the journal does it."""
        if session.id in self.dead:
            return
        events = self.journal.setdefault(session.id, [])
        events.append(
            SessionEvent(
                session=session.id,
                run=session.run_id,
                offset=len(events),
                kind=kind,
                at=self.now().isoformat(),
                data=data,
            )
        )
        self.wake("run", session.run_id)


def key_of(noun: Any) -> str:
    match noun:
        case Post() | Said():
            return noun.key
        case Link():
            return noun.node_id
        case _:
            return str(noun.id)


def matches(noun: Any, where: Sequence[tuple[str, object]]) -> bool:
    return all(
        getattr(noun, name) in wanted
        if isinstance(wanted, tuple)
        else getattr(noun, name) == wanted
        for name, wanted in where
    )


def check_commit(before: dict[tuple[type, str], Any], changes: Sequence[Change]) -> None:
    """What must hold of every single transaction."""
    told = {(one.event.subject, one.event.kind) for one in changes if isinstance(one, Tell)}
    for change in changes:
        if not isinstance(change, Insert | Update):
            continue
        noun, kind = change.noun, type(change.noun).__name__.lower()
        known = before.get((type(noun), key_of(noun)))
        if isinstance(change, Update) and isinstance(noun, STATEFUL):
            is_moved = noun.state is not known.state
            told_so = (f"{kind}:{noun.id}", f"{kind}.{noun.state}") in told
            assert told_so or not is_moved, f"t1: {kind} became {noun.state} without an event"
        if isinstance(noun, NodeOrder) and noun.subject_kind == "run" and known is None:
            run = before[Run, noun.subject]
            assert run.state is not RunState.ENDED, f"an order after the end: {noun.id}"
        if isinstance(noun, Run) and known is not None:
            assert known.state is not RunState.ENDED, "t2: an end is final"
        if isinstance(noun, Prompt) and known is not None:
            assert (known.state, noun.state) != ("sent", "pending"), "p4: a prompt is sent once"
        if isinstance(noun, Decision) and noun.state is DecisionState.ANSWERED:
            assert noun.answered_by in PEOPLE, "p13: only people answer"


def run(look: Coroutine[Any, Any, Any]) -> Any:
    """Run what never waits for anything."""
    try:
        look.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a look waited for something that is not there")


class Runs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = world = World()
        self.said = count(1)
        self.threads: list[ThreadId] = []
        for noun in (a_project(), a_project(id="till", repository="acme/till", checks=("make",))):
            world.rows[Project, noun.id] = noun
        world.rows[Node, "node-1"] = a_node()
        world.rows[Link, "node-1"] = a_link(seen_at=world.now())
        self.conversation = Conversation(
            store=world, triage=PlainTriage(), clock=world, clocks=CLOCKS
        )
        self.looks = {
            "inbox": self.conversation,
            "task": TaskReconciler(
                store=world, clock=world, clocks=CLOCKS, limits=Limits(runs=2, runs_per_person=1)
            ),
            "admission": AdmissionReconciler(store=world),
            "run": RunReconciler(
                store=world,
                forge=world,
                clock=world,
                clocks=CLOCKS,
                model="m",
                installation="here",
                supplier="",
                nodes_max=1,
                mint=lambda: "node-2",
                page_url=lambda task: "http://page",
            ),
            "workspace": WorkspaceReconciler(
                store=world,
                files=world.files,
                nodes=world,
                clock=world,
                clocks=CLOCKS,
                machines=Machines(supplier="", nodes_max=1, mint=lambda: "node-2"),
                url=lambda repo: f"u/{repo}",
                image="i",
            ),
        }

    # The engine

    def look(self, which: tuple[str, str]) -> None:
        """Look at one object as the engine does; due again when it says, or when it is woken."""
        kind, key = which
        del self.world.due[which]
        if kind not in self.looks:
            return
        claim = Claim(kind=kind, key=key, fence=next(self.world.fences), signals=1, attempts=1)
        try:
            due_in_s = run(self.looks[kind](claim))
        except ConflictError:
            due_in_s = 0.0
        except UnavailableError:
            due_in_s = 5.0
        if due_in_s is not None:
            self.world.wake(kind, key, due_in_s)

    def now_due(self) -> list[tuple[str, str]]:
        return sorted(which for which, due in self.world.due.items() if due <= self.world.elapsed)

    def settle(self) -> None:
        for _ in range(200):
            due = self.now_due()
            if not due:
                return
            for which in due:
                self.look(which)
        raise AssertionError(f"never at rest: {self.now_due()}")

    # What people do

    def say(self, text: str, by: str, thread: ThreadId, number: int, project: str | None) -> None:
        key = f"k{number}"
        bound = [task for task in self.world.all(Task) if task.thread == thread]
        said = Said(
            key=key, surface="web", channel="web", message=key, thread=thread,
            author=PersonId(by), text=text, state="received", created_at=self.world.now(),
            data={"project": project, "task_id": bound[0].id if bound else f"T-{number}"},
        )  # fmt: skip
        run(self.world.commit(Insert(said), Wake("inbox", key)))

    @precondition(lambda self: len(self.threads) < 3)
    @rule(by=st.sampled_from(PEOPLE), project=st.sampled_from(["web", "till"]))
    def someone_asks(self, by: str, project: str) -> None:
        number = next(self.said)
        self.threads.append(ThreadId(f"web:web:k{number}"))
        self.world.conflicts = 0
        self.say("Fix the cart.", by, self.threads[-1], number, project)
        self.settle()

    @precondition(lambda self: self.threads)
    @rule(text=WORDS, by=st.sampled_from(PEOPLE), pick=st.integers(0, 9))
    def someone_replies(self, text: str, by: str, pick: int) -> None:
        self.world.conflicts = 0
        thread = self.threads[pick % len(self.threads)]
        self.say(text, by, thread, next(self.said), None)

    def open_decisions(self) -> list[Decision]:
        return run(self.world.find(Decision, state=DecisionState.OPEN))

    @precondition(lambda self: self.open_decisions())
    @rule(pick=st.integers(0, 9), by=st.sampled_from(PEOPLE), allow=st.booleans())
    def someone_answers(self, pick: int, by: str, allow: bool) -> None:
        decisions = self.open_decisions()
        decision = decisions[pick % len(decisions)]
        self.world.conflicts = 0
        changes = self.conversation.answered(
            decision, PersonId(by), surface="web", allow=allow, answers={"?": "Blue"}
        )
        run(self.world.commit(*changes))

    # What nodes and coding agents do

    def open_orders(self) -> list[NodeOrder]:
        return [order for order in self.world.all(NodeOrder) if order.is_open]

    @precondition(lambda self: self.open_orders() and not self.world.is_node_silent)
    @rule(
        pick=st.integers(0, 9),
        ok=st.sampled_from([True, True, True, False]),
        commits=st.integers(0, 2),
    )
    def the_node_answers(self, pick: int, ok: bool, commits: int) -> None:
        orders = self.open_orders()
        self.world.answer(orders[pick % len(orders)], ok=ok, commits=commits)

    @precondition(lambda self: self.open_orders())
    @rule(commits=st.integers(0, 2))
    def the_node_works_off_its_queue(self, commits: int) -> None:
        for order in self.open_orders():
            self.world.answer(order, ok=True, commits=commits)
        self.settle()

    def live_sessions(self) -> list[AgentSession]:
        over = {one.id for one in self.world.all(Run) if one.is_over}
        return [
            session
            for session in self.world.all(AgentSession)
            if session.run_id not in over and session.id not in self.world.dead
        ]

    @precondition(lambda self: self.live_sessions() and not self.world.is_node_silent)
    @rule(
        pick=st.integers(0, 9),
        does=st.sampled_from(
            [*["takes"] * 6, "ends its turn", "completes", "fails", "asks", "withdraws", "dies"]
        ),
    )
    def a_coding_agent(self, pick: int, does: str) -> None:
        self.settle()
        sessions = self.live_sessions()
        if sessions:
            self.act(sessions[pick % len(sessions)], does)

    def act(self, session: AgentSession, does: str) -> None:
        emit = self.world.emit
        match does:
            case "takes":
                for prompt in run(self.world.find(Prompt, session_id=session.id, state="sent")):
                    emit(session, "session.state", state="busy")
                    emit(session, "prompt.state", prompt=prompt.id, state="queued")
                    emit(session, "prompt.state", prompt=prompt.id, state="started")
            case "completes":
                emit(session, "complete", summary="Done.")
            case "ends its turn":
                self._turn(session, ok=True, code="")
            case "fails":
                self._turn(session, ok=False, code="billing_error")
            case "asks":
                number = len(self.world.journal.get(session.id, []))
                emit(session, "question.open", request=f"q{number}", kind="question", title="?")
            case "withdraws":
                for decision in self.open_decisions():
                    if decision.session_id == session.id:
                        emit(session, "question.closed", request=decision.request, by="withdrawn")
            case "dies":
                emit(session, "session.state", state="ended", reason="It was killed.")
                self.world.dead.add(session.id)

    def _turn(self, session: AgentSession, *, ok: bool, code: str) -> None:
        for prompt in self.world.all(Prompt):
            if prompt.session_id == session.id and prompt.state in {"queued", "started"}:
                self.world.emit(session, "prompt.state", prompt=prompt.id, state="completed")
        self.world.emit(session, "turn.end", ok=ok, code=code, text="So it is.")
        self.world.emit(session, "session.state", state="idle")

    @precondition(lambda self: self.live_sessions())
    @rule(pick=st.integers(0, 9))
    def the_budget_is_used_up(self, pick: int) -> None:
        sessions = self.live_sessions()
        session = sessions[pick % len(sessions)]
        self.world.conflicts = 0
        grant = Grant(
            workspace_id=session.workspace_id,
            task_id=session.task_id,
            run_id=session.run_id,
            repository=RepoRef(owner="acme", name="web"),
            branches="samovar/",
            models=None,
            budget_usd=Decimal(3),
            spent_usd=Decimal(3),
        )
        run(StoredGrants(store=self.world, clock=self.world).exhausted(grant))

    # What happens

    @rule(seconds=st.sampled_from([1, 1, 1, 30, 30, 61, 130, 700, 2000, 15_000]))
    def time_passes(self, seconds: float) -> None:
        self.settle()
        self.world.pass_time(seconds)
        self.settle()

    @rule(picks=st.lists(st.integers(0, 20), max_size=5))
    def the_engine_looks(self, picks: list[int]) -> None:
        for pick in picks:
            due = self.now_due()
            if due:
                self.look(due[pick % len(due)])

    @rule(number=st.integers(1, 2))
    def somebody_writes_first(self, number: int) -> None:
        self.world.conflicts = number

    @rule(error=st.sampled_from([UnavailableError("GitHub", "503"), RefusedError("GitHub", "no")]))
    def the_code_host_fails(self, error: Exception) -> None:
        self.world.refusals.append(error)

    @rule(seconds=st.sampled_from([20, 20, 50, 400]))
    def the_node_is_silent_for_a_while(self, seconds: float) -> None:
        self.settle()
        self.world.is_node_silent = True
        self.world.pass_time(seconds)
        self.settle()
        self.world.is_node_silent = False
        self.world.pass_time(1)

    # What holds whatever happens

    @invariant()
    def no_run_stays_past_its_deadline(self) -> None:
        """G2: whoever is past it is due, and one look at it brings it on."""
        for one in self.world.all(Run):
            if one.is_over:
                continue
            if one.state is RunState.ASKING:
                assert one.deadline_at is None
                continue
            assert one.deadline_at is not None, f"{one.id} may stay {one.state} for ever"
            due = self.world.due.get(("run", one.id), 1e18)
            assert at(due) <= one.deadline_at, f"nobody looks at {one.id} at its deadline"

    @invariant()
    def every_end_is_final_and_said_once(self) -> None:
        """T2 and the one message that says how it ended."""
        posts = [post.key for post in self.world.all(Post)]
        for one in self.world.all(Run):
            said = [key for key in posts if key.endswith((f"/end/{one.id}", f"/stopped/{one.id}"))]
            assert len(said) == int(one.is_over)
            if one.is_over:
                assert self.world.ends.setdefault(one.id, one) == one
                assert one.verdict is not None

    @invariant()
    def an_end_leaves_nothing_behind(self) -> None:
        over = {one.id for one in self.world.all(Run) if one.is_over}
        for decision in self.world.all(Decision):
            assert decision.run_id not in over or decision.state is not DecisionState.OPEN
        for workspace in self.world.all(Workspace):
            assert workspace.run_id not in over, f"{workspace.id} is bound to a run that ended"
        for prompt in self.world.all(Prompt):
            assert prompt.run_id not in over or prompt.state != "pending", "words without a reader"

    @invariant()
    def prompts_are_sent_at_most_once(self) -> None:
        """P4."""
        sent = [o.body["prompt"] for o in self.world.all(NodeOrder) if o.kind == "send_prompt"]
        assert len(sent) == len(set(sent))

    @invariant()
    def words_do_not_wait_for_the_next_look_round(self) -> None:
        due = {key for kind, key in self.now_due() if kind == "run"}
        for prompt in self.world.all(Prompt):
            one = self.world.rows.get((Run, prompt.run_id))
            is_read = one is not None and one.state is RunState.WORKING
            if is_read and prompt.state == "pending" and not prompt.when_idle:
                assert prompt.run_id in due, f"{prompt.text!r} waits and nobody is woken"

    @invariant()
    def work_is_never_thrown_away(self) -> None:
        """G4: a run that worked was collected, and what was found was pushed or is kept."""
        for one in self.world.all(Run):
            if not one.is_over or one.started_at is None or one.code == "node_lost":
                continue
            orders = [o for o in self.world.all(NodeOrder) if o.subject == one.id]
            assert any(order.kind == "collect" for order in orders)
            if one.verdict in {Outcome.PULL_REQUEST, Outcome.PUSHED}:
                assert any(order.kind == "push" and order.ok for order in orders)

    @invariant()
    def t4_no_end_leaves_its_coding_agent_unstopped(self) -> None:
        stops = {
            order.subject for order in self.world.all(NodeOrder) if order.kind == "stop_session"
        }
        for session in self.world.all(AgentSession):
            assert session.run_id in stops or not self.world.rows[Run, session.run_id].is_over

    @invariant()
    def p13_a_question_is_closed_by_people_or_with_its_run(self) -> None:
        for decision in self.world.all(Decision):
            if decision.state is DecisionState.ANSWERED:
                assert decision.answered_by in PEOPLE

    # Everything ends

    def teardown(self) -> None:
        world = self.world
        world.conflicts = 0
        world.refusals.clear()
        world.pass_time(1)
        for _ in range(300):
            self.settle()
            if self._is_calm():
                break
            self._be_nice()
            self.settle()
            if not self.now_due():
                nearest = min(world.due.values(), default=world.elapsed + 1)
                world.pass_time(max(0.5, min(nearest - world.elapsed, 20)))
        live = [(one.id, str(one.state)) for one in world.all(Run) if not one.is_over]
        tasks = [(task.id, str(task.state)) for task in world.all(Task) if not task.state.is_over]
        assert self._is_calm(), f"did not end: {live} {tasks} {world.due}"
        self.every_end_is_final_and_said_once()
        self.an_end_leaves_nothing_behind()
        self._workspaces_go_away()

    def _is_calm(self) -> bool:
        runs_over = all(one.is_over for one in self.world.all(Run))
        return runs_over and all(task.state.is_over for task in self.world.all(Task))

    def _be_nice(self) -> None:
        """People answer, the node obeys, coding agents finish."""
        for decision in self.open_decisions():
            self.someone_answers(0, "ana", True)
            assert decision.state is DecisionState.OPEN
        for order in self.open_orders():
            self.world.answer(order, ok=True)
        self.settle()
        for session in self.live_sessions():
            self.act(session, "takes")
            self.act(session, "withdraws")
            self.act(session, "completes")
            self.act(session, "ends its turn")

    def _workspaces_go_away(self) -> None:
        for _ in range(60):
            self.settle()
            for order in self.open_orders():
                self.world.answer(order, ok=True)
            self.settle()
            self.world.pass_time(100)
        left = [w.id for w in self.world.all(Workspace) if w.state not in _AT_REST]
        assert left == [], "a workspace stays on its machine for ever"


TestRuns = Runs.TestCase
