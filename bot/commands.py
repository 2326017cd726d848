"""What people can ask for, the same for every surface. Decides whether they may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot import replies
from bot.conversation import NOTHING, WHICH, Conversation
from bot.deciding import check, existing, write
from bot.handover import SessionCommands
from bot.pulse import Pulse
from bot.records import Cards, names
from core.access import Person
from core.card import Card, Holder
from core.decision import Decision, DecisionState
from core.errors import (
    ConflictError,
    UserError,
)
from core.event import Event
from core.ids import DecisionId, NodeId, ProjectId, SessionId, TaskId, ThreadId
from core.message import Post, Said, Thread
from core.node import Link, Node, NodeState
from core.place import is_lost, is_up
from core.plan.step import told
from core.ports.commands import (
    Heard,
    Line,
    NodeView,
    RunLine,
    TaskView,
    Words,
)
from core.ports.store import Change, Insert, Reader, Update, Wake
from core.project import Project
from core.run import Run
from core.session import Prompt
from core.task import Task
from core.timeline import answer_text
from core.wire import SessionEvent
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace

LOOK_S = 0.03
_LIVE_NODES = tuple(state for state in NodeState if state is not NodeState.GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BotCommands(SessionCommands):
    """See `core.ports.commands.Commands`."""

    cards: Cards
    conversation: Conversation
    pulse: Pulse

    async def say(self, actor: Person, words: Words) -> Heard:
        """See `Commands.say`."""
        check(actor, "start" if words.thread is None else "steer")
        known = await self.store.find(Said, key=words.key)
        if known:  # Delivered again, perhaps while the first delivery waits.
            return await self._understood(known[0])
        if not words.text.strip():
            raise UserError("Say what should be done: the message is empty.", code="empty")
        if words.project is not None:
            await self.project(words.project)
        thread = words.thread or ThreadId(f"{words.surface}:{words.channel}:{words.key}")
        said = Said(
            key=words.key,
            surface=words.surface,
            channel=words.channel,
            message=words.message,
            thread=thread,
            author=actor.id,
            text=words.text,
            state="received",
            created_at=self.clock.now(),
            data=await self._data(words, thread),
        )
        try:
            await self.store.commit(Insert(said), Wake("inbox", said.key))
        except ConflictError:  # The same message under another delivery id.
            same = await self.store.find(
                Said, surface=words.surface, channel=words.channel, message=words.message
            )
            said = same[0] if same else said
        return await self._understood(said)

    async def _understood(self, said: Said) -> Heard:
        """Wait a little for what comes of the words: they are stored, whatever happens here."""
        waited_s = 0.0
        while said.state == "received" and waited_s < self.clocks.triage_s + 1:
            await self.clock.sleep(LOOK_S)
            waited_s += LOOK_S
            said = await self.store.get(Said, said.key)
        return await self._heard(said)

    async def _heard(self, said: Said) -> Heard:
        """Return the receipt; a number that was set aside for a task is none yet."""
        number = (said.data or {}).get("task_id")
        found = await self.store.find(Task, id=number) if isinstance(number, str) else ()
        words = ""
        if said.result == WHICH:
            words = replies.which_project(await self.store.find(Project))
        elif said.result == NOTHING:
            words = replies.NOTHING_TO_STOP
        return Heard(thread=said.thread, task_id=found[0].id if found else None, said=words)

    async def _data(self, words: Words, thread: ThreadId) -> dict[str, object]:
        bound = await self.store.find(Thread, id=thread)
        known = bound[0].task_id if bound else None
        number = known or f"T-{await self.store.next_number('task')}"
        return {"project": words.project, "when_idle": words.when_idle, "task_id": number}

    async def answer(
        self,
        actor: Person,
        decision: DecisionId,
        *,
        surface: str,
        allow: bool = True,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        """See `Commands.answer`."""
        check(actor, "answer")

        async def changes() -> Sequence[Change]:
            known = await existing(self.store, Decision, decision, "question")
            if known.state is not DecisionState.OPEN:
                raise UserError(await self._won(known), code="answered")
            given = None if answers is None else dict(answers)
            return self.conversation.answered(
                known, actor.id, surface=surface, allow=allow, answers=given
            )

        await write(self.store, changes)

    async def _won(self, decision: Decision) -> str:
        if decision.state is DecisionState.WITHDRAWN:
            return replies.withdrawn(decision.title)
        by = await self.people.name(decision.answered_by)
        return replies.answered_before(by, answer_text(decision))

    async def stop(self, actor: Person, task: TaskId) -> None:
        """See `Commands.stop`."""
        check(actor, "stop")

        async def changes() -> Sequence[Change]:
            known = await existing(self.store, Task, task, "task")
            return await self.conversation.stopping(known, actor.id)

        await write(self.store, changes)

    async def projects(self, actor: Person) -> Sequence[Project]:
        """See `Commands.projects`."""
        check(actor, "look")
        return await self.store.find(Project)

    async def tasks(
        self, actor: Person, *, project: ProjectId | None = None, limit: int = 50
    ) -> Sequence[Card]:
        """See `Commands.tasks`."""
        check(actor, "look")
        where = {} if project is None else {"project": (await self.project(project)).id}

        async def look(reader: Reader) -> Sequence[Card]:
            found = await reader.find(Task, limit=limit, newest_first=True, **where)
            return await self.cards.of(reader, found)

        return await self.store.snapshot(look)

    async def task(self, actor: Person, task: TaskId) -> TaskView:
        """See `Commands.task`."""
        check(actor, "look")
        return await self.store.snapshot(lambda reader: self._task(reader, task))

    async def _task(self, reader: Reader, task_id: TaskId) -> TaskView:
        task = await existing(reader, Task, task_id, "task")
        runs = await reader.find(Run, task_id=task_id)
        known_as = await names(reader)
        card = await self.cards.card(reader, task)
        return TaskView(
            card=card,
            project=task.project,
            thread=task.thread,
            prompt=task.prompt,
            asked_by=known_as.get(task.asked_by, task.asked_by),
            created_at=task.created_at,
            lines=_lines(
                await reader.find(Prompt, task_id=task_id),
                await reader.find(Post, task_id=task_id),
                known_as,
                card.holder,
            ),
            runs=tuple(_run_line(run) for run in runs),
        )

    async def events(
        self, actor: Person, *, after: int, limit: int = 500, task: TaskId | None = None
    ) -> Sequence[Event]:
        """See `Commands.events`."""
        check(actor, "look")
        return await self.store.events(after=after, limit=limit, task_id=task)

    async def session_events(
        self, actor: Person, session: SessionId, *, after: int, limit: int = 500
    ) -> Sequence[SessionEvent]:
        """See `Commands.session_events`."""
        check(actor, "look")
        return await self.store.session_events(session, after=after, limit=limit)

    async def nodes(self, actor: Person) -> Sequence[NodeView]:
        """See `Commands.nodes`."""
        check(actor, "look")

        async def look(reader: Reader) -> Sequence[NodeView]:
            nodes = await reader.find(Node, state=_LIVE_NODES)
            links = {link.node_id: link for link in await reader.find(Link)}
            live = await reader.find(Workspace, state=LIVE_WORKSPACES)
            return [self._node(node, links.get(node.id), live) for node in nodes]

        return await self.store.snapshot(look)

    def _node(self, node: Node, link: Link | None, live: Sequence[Workspace]) -> NodeView:
        now = self.clock.now()
        state = "never" if link is None or link.seen_at is None else "stale"
        if is_up(node, link, now=now, clocks=self.clocks):
            state = "up"
        elif state == "stale" and is_lost(link, node.state_since, now=now, clocks=self.clocks):
            state = "lost"
        known = link or Link(node_id=node.id)
        return NodeView(
            id=node.id,
            supplier=node.supplier,
            state=node.state,
            link=state,
            agent=known.agent,
            cpus=node.cpus,
            memory_mb=node.memory_mb,
            load=known.load,
            memory_free_mb=known.memory_free_mb,
            disk_free_mb=known.disk_free_mb,
            workspaces=tuple(w.id for w in live if w.node_id == node.id),
            seen_at=known.seen_at,
            warm_until=node.warm_until,
        )

    async def enrolment(self, actor: Person) -> str:
        """See `Commands.enrolment`."""
        check(actor, "manage")
        return (await self.people.enrolment(None)).reveal()

    async def delete_node(self, actor: Person, node: NodeId) -> None:
        """See `Commands.delete_node`."""
        check(actor, "manage")

        async def changes() -> Sequence[Change]:
            known = await existing(self.store, Node, node, "node")
            if known.state is not NodeState.READY:
                return []
            draining = known.moved(NodeState.DRAINING, at=self.clock.now())
            fact = told("node.draining", f"node:{node}", at=draining.state_since, by=actor.id)
            return [Update(draining), fact, Wake("node", node)]

        await write(self.store, changes)

    def silent_sweeps(self) -> Sequence[str]:
        """See `Commands.silent_sweeps`."""
        return sorted(self.pulse.silent)

    async def sign_in_link(self, actor: Person) -> str:
        """See `Commands.sign_in_link`."""
        return f"/sign-in?token={(await self.people.sign_in(actor.id)).reveal()}"


def _lines(
    prompts: Sequence[Prompt],
    posts: Sequence[Post],
    known_as: Mapping[str, str],
    holder: Holder | None,
) -> tuple[Line, ...]:
    """Return the thread: what people said and what was said to them, oldest first."""
    lines = [
        Line(
            at=prompt.created_at,
            by=known_as.get(prompt.by, prompt.by),
            kind="message",
            text=prompt.text,
            receipt=_receipt(prompt, holder),
        )
        for prompt in prompts
    ]
    lines += [
        Line(at=post.created_at, by="samovar", kind=post.kind, text=post.text)
        for post in posts
        if post.kind != "card" and post.text
    ]
    return tuple(sorted(lines, key=lambda line: line.at))


def _run_line(run: Run) -> RunLine:
    return RunLine(
        id=run.id,
        state=run.state,
        outcome=str(run.verdict or ""),
        reason=run.reason,
        session_id=run.session_id,
        created_at=run.created_at,
        ended_at=run.ended_at,
    )


def _receipt(prompt: Prompt, holder: Holder | None) -> str:
    if prompt.state == "pending" and holder is not None and not holder.is_waiting:
        return f"the agent is {holder.text}; sent when it comes back"
    if prompt.state == "pending" and prompt.when_idle:
        return "waits until the agent is idle"
    return {
        "pending": "waiting",
        "sent": "on its way",
        "queued": "the agent has it",
        "started": "the agent has it",
        "completed": "",
        "cancelled": "cancelled",
        "ambiguous": "outcome unknown: look at what the agent did before you say it again",
        "lost": "did not arrive",
    }[prompt.state]
