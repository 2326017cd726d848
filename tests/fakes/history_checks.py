"""When a history is over, and what must be true then. Each problem is a sentence."""

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import timedelta

import sqlalchemy as sa

from adapters.store.schema import DEAD_LETTER, WORK
from adapters.system import SystemClock
from core.chat import Chat
from core.decision import Decision, DecisionState
from core.event import Event
from core.message import Post, Said
from core.node import Node, NodeState
from core.order import NodeOrder
from core.run import Outcome, Run, RunState
from core.session import AgentSession, Prompt, SessionState
from core.task import Task
from core.workspace import Workspace, WorkspaceState
from tests.fakes.history import History
from tests.fakes.history_world import REPOSITORY, CodingAgent

_LATE = timedelta(seconds=5)
_NATURAL = {Outcome.PULL_REQUEST, Outcome.ANSWER, Outcome.NO_CHANGE}


async def unrest(history: History) -> list[str]:
    """Return what still moves or waits; nothing when the world is calm."""
    store, world = history.store, history.world
    found = [f"{key} is not asked for yet" for key in _missing(history)]
    found += [f"task {t.id} is {t.state}" for t in await store.find(Task) if not t.state.is_over]
    found += [f"run {r.id} is {r.state} {r.code}" for r in await store.find(Run) if not r.is_over]
    found += [f"{said.key} is {said.state}" for said in await store.find(Said, state="received")]
    owed = await store.find(Post, state=("pending", "sending"))
    found += [f"post {post.key} is {post.state}" for post in owed]
    found += [f"order {o.id} is open" for o in await store.find(NodeOrder, ok=None) if o.is_open]
    found += [f"agent of {run} lives" for run, count in world.live_runs().items() if count]
    for workspace in await store.find(Workspace):
        if not _is_settled(workspace):
            found.append(f"workspace {workspace.id} is {workspace.state} for {workspace.run_id}")
    for node in await store.find(Node):
        if node.state not in {NodeState.READY, NodeState.GONE}:
            found.append(f"node {node.id} is {node.state}")
    for agent in list(world.agents.values()):
        stored = await store.session_events(agent.order.session, after=-1, limit=10_000)
        if len(stored) != len(agent.journal):
            found.append(f"{len(stored)} of {len(agent.journal)} events of {agent.order.run}")
    return found


def _missing(history: History) -> list[str]:
    return [r.key for r in history.plan.requests if r.key not in history.tasks]


def _is_settled(workspace: Workspace) -> bool:
    if workspace.state in {WorkspaceState.STOPPED, WorkspaceState.GONE}:
        return True
    now, until = SystemClock().now(), workspace.keep_until
    is_kept = until is not None and until > now + timedelta(seconds=2)
    return workspace.state is WorkspaceState.READY and workspace.run_id is None and is_kept


async def problems(history: History) -> list[str]:
    """Return every broken invariant of a calm world."""
    found = list(history.world.wrong)
    for check in (_records, _messages, _posts, _runs, _pulls, _events, _prompts, _nodes, _rest):
        found += [f"{check.__name__}: {text}" async for text in check(history)]
    return found


async def _records(history: History) -> AsyncIterator[str]:
    """G2: nothing is past its deadline; nothing got stuck; nothing was thrown away."""
    now = SystemClock().now()
    nouns: list[Run | Workspace | Node] = [
        *await history.store.find(Run),
        *await history.store.find(Workspace),
        *await history.store.find(Node),
    ]
    for noun in nouns:
        is_over = str(noun.state) in {"ended", "gone"}
        if not is_over and noun.deadline_at is not None and noun.deadline_at < now - _LATE:
            yield f"G2: {noun.id} is {noun.state} past its deadline"
    for event in await history.store.events(after=0, limit=100_000):
        if event.kind == "work.stuck":
            yield f"{event.subject} got stuck: {event.data}"
    database = history.store.database
    for row in await database.read(sa.select(DEAD_LETTER)):
        yield f"P7: a report of {row['node_id']} was buried: {row['reason']}"
    for row in await database.read(sa.select(WORK).where(WORK.c.attempts > 1)):
        yield f"{row['kind']} {row['key']} tried {row['attempts']} times: {row['last_error']}"


async def _messages(history: History) -> AsyncIterator[str]:
    """P1, G3: what was accepted is there once and was handled; it made one task at most."""
    all_said = await history.store.find(Said)
    known = {said.key: said for said in all_said}
    for key in history.accepted:
        if key not in known:
            yield f"P1: {key} was accepted and is lost"
        elif known[key].state not in {"handled", "ignored"}:
            yield f"G3: {key} is {known[key].state}"
    for message, count in Counter((said.channel, said.message) for said in all_said).items():
        if count > 1:
            yield f"P1: {message} is stored {count} times"
    tasks = await history.store.find(Task)
    chats = {chat.id for chat in await history.store.find(Chat)}
    if {task.id for task in tasks} != set(history.tasks.values()) | chats:
        yield f"P1: {len(tasks)} tasks for {len(history.tasks)} requests and {len(chats)} chats"
    wanted = sum(act.what == "chat" for one in history.plan.requests for act in one.acts)
    if len(chats) > wanted:
        yield f"P1: {len(chats)} chats for {wanted} wishes"


async def _posts(history: History) -> AsyncIterator[str]:
    """Every post is in the chat once, and every run has one end there."""
    posts = await history.store.find(Post)
    for key, texts in history.world.posts.items():
        if len(texts) > 1:
            yield f"{key} was posted {len(texts)} times"
    for post in posts:
        if post.state == "sent" and post.key not in history.world.posts:
            yield f"{post.key} is sent and not there"
        if post.state == "dead":
            yield f"{post.key} is dead: {post.error}"
    for run in await history.store.find(Run):
        ends = [p for p in posts if p.key.rpartition("/")[2] == run.id and p.kind != "reply"]
        if len(ends) != 1:
            yield f"{run.id} has {len(ends)} end messages"


async def _runs(history: History) -> AsyncIterator[str]:
    """Every run ended as what its coding agent did says, or as a person wanted."""
    by_run = {agent.order.run: agent for agent in history.world.agents.values()}
    for run in await history.store.find(Run):
        agent, wanted = by_run.get(run.id), _outcomes(run, by_run.get(run.id))
        if run.verdict not in wanted:
            did = f"{agent.last_code!r} died={agent.died}" if agent else "no agent"
            ended = f"{run.verdict} ({run.code}: {run.reason})"
            yield f"{run.id} ended as {ended}, not {wanted} ({did})"
    for session in await history.store.find(AgentSession):
        if session.state is not SessionState.ENDED:
            yield f"session of {session.run_id} is {session.state}"
    for task in await history.store.find(Task):
        runs = await history.store.find(Run, task_id=task.id)
        if len(runs) != task.runs:
            yield f"{task.id} counts {task.runs} runs and has {len(runs)}"


def _outcomes(run: Run, agent: CodingAgent | None) -> set[Outcome]:
    wanted: set[Outcome] = set()
    if run.cancel_by:
        wanted.add(Outcome.CANCELLED)
    if agent is None or agent.last_code is None:
        return wanted | ({Outcome.FAILED} if agent is not None and agent.died else set())
    if agent.died:
        wanted.add(Outcome.FAILED)
    elif agent.last_code:
        is_blocked = agent.last_code == "billing_error"
        wanted.add(Outcome.BLOCKED if is_blocked else Outcome.FAILED)
    elif run.measured is not None and run.measured["commits"]:
        wanted.add(Outcome.PULL_REQUEST)
    elif run.measured is not None:
        wanted |= {Outcome.ANSWER, Outcome.NO_CHANGE}
    return wanted


async def _pulls(history: History) -> AsyncIterator[str]:
    """A task whose run ended with a pull request has exactly one, at what was collected last."""
    repository = history.world.forge.repositories[REPOSITORY]
    count = Counter(pull.head for pull in repository.pulls.values())
    chats = {chat.id for chat in await history.store.find(Chat)}
    for task in await history.store.find(Task):
        if task.id in chats:  # It is on the branch of its workspace's task and publishes nothing.
            continue
        runs = await history.store.find(Run, task_id=task.id)
        has_one = any(run.verdict is Outcome.PULL_REQUEST for run in runs)
        if count[task.branch] != has_one:
            yield f"{task.id} has {count[task.branch]} pull requests"
        if has_one and not task.pull_url:
            yield f"{task.id} does not know its pull request"
        pushed = [run for run in runs if run.measured and run.measured["commits"]]
        head = repository.heads.get(task.branch)
        last = pushed[-1].measured["head"] if pushed and pushed[-1].measured else head
        if last != head:
            yield f"G4: {task.branch} is at {head}, not what {pushed[-1].id} collected"
    for branch in set(count) - {task.branch for task in await history.store.find(Task)}:
        yield f"a pull request of nobody: {branch}"


async def _events(history: History) -> AsyncIterator[str]:
    """P3, P6, P7: what a coding agent wrote is stored once, in order, for its run."""
    for agent in history.world.agents.values():
        stored = await history.store.session_events(agent.order.session, after=-1, limit=10_000)
        if list(stored) != agent.journal:
            pairs = zip(stored, agent.journal, strict=False)
            odd = next((pair for pair in pairs if pair[0] != pair[1]), None)
            yield f"P3: events of {agent.order.run} differ: {odd}"
        kinds = [event.data.get("state") for event in stored if event.kind == "session.state"]
        if kinds.count("starting") != 1 or kinds.count("ended") != 1:
            yield f"{agent.order.run} started or ended more than once: {kinds}"
    decisions = await history.store.find(Decision)
    for decision in decisions:
        given = [a.answers.get(decision.request) for a in _agents(history, decision)]
        if decision.state is DecisionState.OPEN:
            yield f"P13: {decision.id} is open although its run is over"
        if decision.state is DecisionState.WITHDRAWN and any(given):
            yield f"P13: {decision.id} is withdrawn and was answered with {given}"
        if any(given) and given != [decision.answers]:
            yield f"P13: {decision.id} was answered {decision.answers}, the agent heard {given}"
    asked = sum(len(agent.asked) for agent in history.world.agents.values())
    if asked != len(decisions):
        yield f"P13: {asked} questions were asked and {len(decisions)} are stored"


def _agents(history: History, decision: Decision) -> Sequence[CodingAgent]:
    return [a for a in history.world.agents.values() if a.order.session == decision.session_id]


async def _prompts(history: History) -> AsyncIterator[str]:
    """P4: what was said reached a coding agent once, or people can see that it did not."""
    runs = {run.id for run in await history.store.find(Run)}
    reached = Counter[str]()
    for agent in history.world.agents.values():
        reached.update(agent.delivered)
    for prompt in await history.store.find(Prompt):
        times = reached[prompt.id]
        if times > 1 or (times == 0 and prompt.state in {"queued", "started", "completed"}):
            yield f"P4: {prompt.id} ({prompt.text[:30]}) reached {times} times, is {prompt.state}"
        if times == 1 and prompt.state in {"pending", "sent", "lost"}:
            yield f"P4: {prompt.id} ({prompt.text[:30]}) reached, is {prompt.state}"
        is_kept = prompt.run_id not in runs and prompt.state == "pending"
        if prompt.state in {"pending", "sent"} and not is_kept:
            yield f"G3: {prompt.id} ({prompt.text[:30]}) of {prompt.run_id} is {prompt.state}"
        if prompt.state == "lost":
            yield f"{prompt.id} ({prompt.text[:30]}) of {prompt.run_id} was lost"


async def _nodes(history: History) -> AsyncIterator[str]:
    """G1, fences: machines are those of our records; no order was done below a known fence."""
    live = {n.id for n in await history.store.find(Node) if n.state is not NodeState.GONE}
    if live != set(history.world.servers):
        yield f"G1: nodes {live}, machines {set(history.world.servers)}"
    if len(live) > 1:
        yield f"N3: {len(live)} nodes of one supplier"
    there = {w.id for w in await history.store.find(Workspace) if w.state == WorkspaceState.READY}
    if there != set(history.world.workspaces):
        yield f"workspaces {there} in the records, {set(history.world.workspaces)} on the node"
    for node in history.nodes:
        for text in _below_fence(str(history.folder / node / "spool.db")):
            yield text


def _below_fence(spool: str) -> list[str]:
    highest: dict[str, int] = {}
    found = []
    with closing(sqlite3.connect(spool)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'order'").fetchall():
            return []  # Killed before its first table: it was given no order, so it did none.
        orders = db.execute('SELECT id, object, fence, answer FROM "order" ORDER BY seq').fetchall()
    for name, about, fence, answer in orders:
        is_refused = answer is not None and json.loads(answer)["code"] == "stale_fence"
        if fence < highest.get(about, 0) and not is_refused:
            found.append(f"{name} was done under fence {fence}")
        highest[about] = max(fence, highest.get(about, 0))
    return found


async def _rest(history: History) -> AsyncIterator[str]:
    """T1: each state of a run was entered once, and its end is the last thing told of it."""
    told: dict[str, list[Event]] = {}
    for event in await history.store.events(after=0, limit=100_000):
        told.setdefault(event.subject, []).append(event)
    for run in await history.store.find(Run):
        kinds = [e.kind for e in told.get(f"run:{run.id}", ()) if e.kind.startswith("run.")]
        ends = kinds.count(f"run.{RunState.ENDED}")
        if ends != 1:
            yield f"T2: {run.id} ended {ends} times: {kinds}"
        for kind in ("run.placing", "run.preparing", "run.starting", "run.publishing"):
            if kinds.count(kind) > 1:
                yield f"T1: {run.id} told {kind} more than once: {kinds}"
