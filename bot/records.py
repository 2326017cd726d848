"""Reads what cards and pages are made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import TypeVar

from bot.replies import card_text
from core.access import Person
from core.card import Card
from core.clocks import Clock
from core.decision import Decision
from core.errors import NotFoundError
from core.ids import PersonId, ProjectId, TaskId
from core.message import Post
from core.node import Node
from core.ports.chat import Outgoing
from core.ports.store import Reader, Store
from core.project import Project
from core.run import Run, RunState
from core.session import AgentSession
from core.task import Task, TaskState
from core.terminal import LIVE, Terminal
from core.timeline import TaskRecords, card, durations, queue_position
from core.workspace import Workspace

HISTORY = 20
"""How many ended runs of a project the usual times are taken from."""

Part = TypeVar("Part", Project, Node, Workspace, AgentSession)
OfTask = TypeVar("OfTask", Run, Decision)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the cards of some tasks are made of, read at one moment.

    Attributes:
        terminals: Live ones of agent sessions, by session.
        runs, decisions: By task, oldest first. The other parts are those of the newest runs.
        spent: Millionths of a dollar by run.
        queued: All tasks that wait, if one of these does.
        usual: Median seconds of each step, by project in which one of these is at work.
    """

    projects: Mapping[str | None, Project]
    runs: Mapping[str, Sequence[Run]]
    nodes: Mapping[str | None, Node]
    workspaces: Mapping[str | None, Workspace]
    sessions: Mapping[str | None, AgentSession]
    terminals: Mapping[str | None, Terminal]
    decisions: Mapping[str, Sequence[Decision]]
    spent: Mapping[str, int]
    queued: Sequence[Task]
    names: Mapping[str, str]
    usual: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Makes cards of records.

    Attributes:
        page_url: The page of a task.
    """

    store: Store
    clock: Clock
    page_url: Callable[[TaskId], str]

    async def of(self, reader: Reader, tasks: Sequence[Task]) -> Sequence[Card]:
        """Return the cards of tasks; none of a task whose project cannot be read.

        Each kind of record is asked for once, however many tasks there are.
        """
        seen = await self._seen(reader, tasks)
        return [
            card(self._records(seen, task, seen.runs.get(task.id, ())))
            for task in tasks
            if task.project in seen.projects
        ]

    async def card(self, reader: Reader, task: Task) -> Card:
        """Return the card of one task."""
        cards = await self.of(reader, [task])
        if not cards:
            raise NotFoundError(f"{task.id}: its project {task.project} cannot be read.")
        return cards[0]

    async def _seen(self, reader: Reader, tasks: Sequence[Task]) -> _Seen:
        ids = tuple(task.id for task in tasks)
        runs = _by_task(await reader.find(Run, task_id=ids))
        newest = [of_task[-1] for of_task in runs.values()]
        at_work = {run.task_id for run in newest if not run.is_over}
        is_any_queued = any(task.state is TaskState.QUEUED for task in tasks)
        return _Seen(
            projects=await _by_id(reader, Project, (task.project for task in tasks)),
            runs=runs,
            nodes=await _by_id(reader, Node, (run.node_id for run in newest)),
            workspaces=await _by_id(reader, Workspace, (run.workspace_id for run in newest)),
            sessions=await _by_id(reader, AgentSession, (run.session_id for run in newest)),
            terminals=await _held(reader, newest),
            decisions=_by_task(await reader.find(Decision, task_id=ids)),
            spent=await reader.spent(*(run.id for of_task in runs.values() for run in of_task)),
            queued=await reader.find(Task, state=TaskState.QUEUED) if is_any_queued else (),
            names=await names(reader),
            usual={
                project: await self._usual(reader, project)
                for project in {task.project for task in tasks if task.id in at_work}
            },
        )

    async def _usual(self, reader: Reader, project: ProjectId) -> Mapping[str, float]:
        """Return the median seconds of each step in the project's last runs."""
        tasks = await reader.find(Task, project=project, limit=HISTORY, newest_first=True)
        ids = tuple(known.id for known in tasks)
        runs = await reader.find(
            Run, task_id=ids, state=RunState.ENDED, limit=HISTORY, newest_first=True
        )
        took: dict[str, list[float]] = {}
        for run in runs:
            for name, value in durations(run, self.clock.now()).items():
                took.setdefault(name, []).append(value)
        return {name: median(values) for name, values in took.items()}

    def _records(self, seen: _Seen, task: Task, runs: Sequence[Run]) -> TaskRecords:
        """Return the records of one task; a part that cannot be read leaves the rest as it is."""
        run = runs[-1] if runs else None
        return TaskRecords(
            task=task,
            project=seen.projects[task.project],
            now=self.clock.now(),
            run=run,
            node=seen.nodes.get(run.node_id) if run else None,
            workspace=seen.workspaces.get(run.workspace_id) if run else None,
            session=seen.sessions.get(run.session_id) if run else None,
            terminal=seen.terminals.get(run.session_id) if run and run.session_id else None,
            decisions=seen.decisions.get(task.id, ()),
            tokens_usd=Decimal(sum(seen.spent.get(run.id, 0) for run in runs)) / 1_000_000,
            position=queue_position(task, seen.queued),
            names=seen.names,
            page_url=self.page_url(task.id),
            usual_s=seen.usual[task.project] if run and not run.is_over else None,
        )

    async def render(self, post: Post) -> Outgoing:
        """Return a post as it should be seen now."""
        task_id = post.task_id
        if post.kind != "card" or task_id is None:
            return Outgoing(text=post.text, mention=PersonId(post.mention or "") or None)

        async def look(reader: Reader) -> Card:
            return await self.card(reader, await reader.get(Task, task_id))

        shown = await self.store.snapshot(look)
        return Outgoing(text=card_text(shown), card=shown)


async def names(reader: Reader) -> Mapping[str, str]:
    """Return the display names of all people."""
    return {person.id: person.name for person in await reader.find(Person)}


async def _by_id(
    reader: Reader, kind: type[Part], ids: Iterable[str | None]
) -> Mapping[str | None, Part]:
    wanted = tuple({key for key in ids if key is not None})
    return {found.id: found for found in await reader.find(kind, id=wanted)} if wanted else {}


async def _held(reader: Reader, runs: Iterable[Run]) -> Mapping[str | None, Terminal]:
    """Return the terminals that have the conversations of live runs."""
    sessions = tuple(run.session_id for run in runs if run.session_id and not run.is_over)
    if not sessions:
        return {}
    found = await reader.find(Terminal, session_id=sessions, state=LIVE)
    return {terminal.session_id: terminal for terminal in found}


def _by_task(found: Sequence[OfTask]) -> Mapping[str, Sequence[OfTask]]:
    of_task: dict[str, list[OfTask]] = {}
    for one in found:
        of_task.setdefault(one.task_id, []).append(one)
    return of_task
