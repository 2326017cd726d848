"""What people say: stored first, understood once, bound to a task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bot import lifecycle, replies
from bot.deciding import check
from bot.lifecycle import NEEDS, What
from core.access import Person
from core.chat import CHATS_MAX, Chat
from core.clocks import Clock, Clocks
from core.decision import Decision, DecisionState
from core.errors import QuotaError, UserError
from core.ids import PersonId, ProjectId, RunId, TaskId, WorkspaceId
from core.message import Post, Said, Thread
from core.plan.names import prompt_name
from core.plan.step import told
from core.ports.store import AtMost, Change, Insert, Store, Touch, Update, Wake
from core.ports.triage import Reading, Triage
from core.ports.work import Claim
from core.project import Project
from core.run import LIVE, Run
from core.session import Prompt
from core.task import Task, TaskState
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace

ASIDE = "!aside"
QUEUE = ". queue"
WHICH, NOTHING = "which project", "nothing to stop"
"""What came of words that led to no task, and of a stop where nothing runs."""
_YES = {"yes", "y", "ok", "okay", "allow", "go", "sure"}
_NO = {"no", "n", "deny", "stop it", "don't", "do not"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Handles the inbox: each stored message once."""

    store: Store
    triage: Triage
    clock: Clock
    clocks: Clocks

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one stored message."""
        said = await self.store.get(Said, claim.key)
        if said.state == "received":
            changes, result, is_ignored = await self._understood(said)
            done = replace(said, state="ignored" if is_ignored else "handled", result=result)
            try:
                await self.store.commit(Update(done), *changes, claim=claim)
            except QuotaError:  # The tab of a chat was closed, and others have its place by now.
                chat = await self.store.get(Chat, result)
                words = replies.too_many_chats(chat.workspace_id)
                refused = self._post(said, "reply", said.key, words, task_id=chat.id)
                await self.store.commit(Update(done), Insert(refused, once=True), claim=claim)
        return None

    async def _understood(self, said: Said) -> tuple[list[Change], str, bool]:
        """Return what the message changes, what came of it, and whether it was to be ignored."""
        text = said.text.strip()
        if text.startswith(ASIDE):
            return [], "aside", True
        threads = await self.store.find(Thread, id=said.thread)
        thread = threads[0] if threads else None
        if thread is None or thread.task_id is None:
            return await self._new_task(said, thread)
        task = await self.store.get(Task, thread.task_id)
        if text.lower().rstrip(".!") == "stop":
            changes = await self.stopping(task, said.author)
            return changes, task.id if changes else NOTHING, False
        if (what := _about_workspace(text)) is not None:
            return await self._of_workspace(said, task, what), task.id, False
        answer = await self._answering(said, task)
        if answer is not None:
            return answer, task.id, False
        return await self._follow_up(said, task), task.id, False

    async def _of_workspace(self, said: Said, task: Task, what: What) -> list[Change]:
        """Do what was said of the task's workspace, and say so in the thread."""
        try:
            made, words = await self._asked_of_workspace(said, task, what)
        except UserError as refused:
            made, words = [], str(refused)
        return [*made, Insert(self._post(said, "reply", said.key, words), once=True)]

    async def _asked_of_workspace(
        self, said: Said, task: Task, what: What
    ) -> tuple[list[Change], str]:
        for person in await self.store.find(Person, id=said.author):
            check(person, NEEDS[what])
        found = await self.store.find(Workspace, task_id=task.id, state=LIVE_WORKSPACES)
        if not found:
            return [], replies.no_workspace(task.id)
        workspace = found[-1]
        asked = await lifecycle.asked(
            self.store, workspace, by=said.author, at=self.clock.now(), clocks=self.clocks
        )
        return [*lifecycle.changes(what, asked)], replies.workspace_asked(what, workspace.id)

    async def _new_task(self, said: Said, thread: Thread | None) -> tuple[list[Change], str, bool]:
        data = said.data or {}
        projects = await self.store.find(Project)
        text = await self._whole_request(said)
        reading = await self.triage.read(text, projects=projects)
        project = self._project(data.get("project"), thread, reading, projects)
        thread = thread or Thread(
            id=said.thread,
            surface=said.surface,
            channel=said.channel,
            created_at=said.created_at,
        )
        if project is None:
            asked = self._post(said, "reply", said.key, replies.which_project(projects))
            return [Insert(thread, once=True), Insert(asked, once=True)], WHICH, False
        task = self._task(said, project, reading, text, TaskId(str(data["task_id"])))
        bound = replace(thread, task_id=task.id, project=project.id)
        known = await self.store.find(Thread, id=thread.id)
        changes: list[Change] = [
            Insert(task),
            Update(bound) if known else Insert(bound),
            Insert(self._prompt(said, text, task, RunId(f"{task.id}.1"), when_idle=False)),
            Insert(self._post(said, "card", "task", "", task_id=task.id), once=True),
            told("task.queued", f"task:{task.id}", at=task.created_at, task_id=task.id),
            Wake("task", task.id),
        ]
        return changes, task.id, False

    async def _whole_request(self, said: Said) -> str:
        """Return the words with those before them in a thread that has no task yet."""
        before = await self.store.find(Said, thread=said.thread, result=WHICH)
        return "\n\n".join([*(earlier.text for earlier in before), said.text]).strip()

    def _project(
        self,
        named: object,
        thread: Thread | None,
        reading: Reading,
        projects: Sequence[Project],
    ) -> Project | None:
        """Return the project that was chosen, is bound, is meant, or is the only one."""
        by_id = {project.id: project for project in projects}
        bound = thread.project if thread is not None else None
        for choice in (named, bound, reading.project):
            if isinstance(choice, str) and choice in by_id:
                return by_id[ProjectId(choice)]
        return projects[0] if len(projects) == 1 else None

    def _task(
        self, said: Said, project: Project, reading: Reading, text: str, task_id: TaskId
    ) -> Task:
        return Task(
            id=task_id,
            project=project.id,
            thread=said.thread,
            asked_by=said.author,
            kind=reading.kind,
            title=reading.title,
            slug=reading.slug,
            prompt=text,
            branch=f"samovar/{task_id}-{reading.slug}",
            state=TaskState.QUEUED,
            state_since=said.created_at,
            created_at=said.created_at,
        )

    def _prompt(
        self, said: Said, text: str, task: Task, run_id: RunId, *, when_idle: bool
    ) -> Prompt:
        return Prompt(
            id=prompt_name(said.key),
            task_id=task.id,
            run_id=run_id,
            by=said.author,
            text=text,
            state="pending",
            created_at=said.created_at,
            when_idle=when_idle,
        )

    def _post(
        self, said: Said, kind: str, what: str, text: str, *, task_id: TaskId | None = None
    ) -> Post:
        return Post(
            key=f"{said.thread}/{kind}/{what}",
            lane=said.thread,
            surface=said.surface,
            kind=kind,  # type: ignore[arg-type]  # one of PostKind, spelled at the call
            state="pending",
            created_at=said.created_at,
            task_id=task_id,
            text=text,
            mention=said.author,
        )

    async def _follow_up(self, said: Said, task: Task) -> list[Change]:
        """Steer the live run, wait for its idle moment, or start the next one."""
        text = said.text.strip()
        when_idle = bool((said.data or {}).get("when_idle")) or text.endswith(QUEUE)
        text = text.removesuffix(QUEUE).strip() or text
        now, opened = self.clock.now(), await self._reopened(task)
        live = await self.store.find(Run, task_id=task.id, state=LIVE)
        if live:
            run = live[-1]
            prompt = self._prompt(said, text, task, run.id, when_idle=when_idle)
            # The run is written too: it must not end between our look and our words.
            return [Insert(prompt), Update(run), *opened, Touch(task.id), Wake("run", run.id)]
        prompt = self._prompt(
            said, text, task, RunId(f"{task.id}.{task.runs + 1}"), when_idle=False
        )
        queued = task if not task.state.is_over else task.moved(TaskState.QUEUED, at=now)
        fact = told("task.queued", f"task:{task.id}", at=now, task_id=task.id)
        wake = Wake("task", task.id)
        return [Insert(prompt), Update(queued), *opened, fact, Touch(task.id), wake]

    async def _reopened(self, task: Task) -> list[Change]:
        """Give a chat its tab back: where an agent may be at work, people can see and close it.

        One that is open is written too: it must not be closed between our look and our words.
        """
        return [
            Update(replace(chat, is_closed=False), limits=(few_chats(chat.workspace_id),))
            for chat in await self.store.find(Chat, id=task.id)
        ]

    async def _answering(self, said: Said, task: Task) -> list[Change] | None:
        """Take a plain reply as the answer when exactly one question is open."""
        open_ones = await self.store.find(Decision, task_id=task.id, state=DecisionState.OPEN)
        words = said.text.strip()
        is_for_later = (said.data or {}).get("when_idle") or words.endswith(QUEUE)
        if len(open_ones) != 1 or is_for_later:
            return None
        decision = open_ones[0]
        if decision.kind == "question" and len(decision.questions) <= 1:
            question = str(decision.questions[0].get("text", "")) if decision.questions else ""
            return self.answered(
                decision, said.author, surface=said.surface, answers={question: words}
            )
        plain = words.lower().rstrip(".!")
        if decision.kind != "question" and plain in _YES | _NO:
            return self.answered(decision, said.author, surface=said.surface, allow=plain in _YES)
        return None

    def answered(
        self,
        decision: Decision,
        by: PersonId,
        *,
        surface: str,
        allow: bool = True,
        answers: dict[str, str] | None = None,
    ) -> list[Change]:
        """Return the changes that answer a decision; the first to commit them wins."""
        now = self.clock.now()
        done = decision.moved(
            DecisionState.ANSWERED,
            at=now,
            allow=allow,
            answers=answers,
            answered_by=by,
            surface=surface,
        )
        fact = told(
            "decision.answered",
            f"decision:{decision.id}",
            at=now,
            task_id=decision.task_id,
            run_id=decision.run_id,
            by=by,
        )
        return [Update(done), fact, Touch(decision.task_id), Wake("run", decision.run_id)]

    async def stopping(self, task: Task, by: PersonId) -> list[Change]:
        """Return the changes that stop a task; none when nothing is to be stopped."""
        now = self.clock.now()
        live = await self.store.find(Run, task_id=task.id, state=LIVE)
        if live and not live[-1].cancel_by:
            run = live[-1]
            fact = told(
                "run.stop_asked",
                f"run:{run.id}",
                at=now,
                task_id=task.id,
                run_id=run.id,
                by=by,
            )
            return [
                Update(replace(run, cancel_by=by)),
                fact,
                Touch(task.id),
                Wake("run", run.id),
            ]
        if task.state is TaskState.QUEUED:
            waiting = await self.store.find(Prompt, task_id=task.id, state="pending")
            return [*withdrawn(task, at=now), *unsaid(waiting)]
        return []


def withdrawn(task: Task, *, at: datetime) -> list[Change]:
    """Return the changes that take a task out of the queue."""
    fact = told("task.cancelled", f"task:{task.id}", at=at, task_id=task.id)
    return [Update(task.moved(TaskState.CANCELLED, at=at)), fact, Touch(task.id)]


def unsaid(waiting: Sequence[Prompt]) -> list[Change]:
    """Return the changes that keep words from starting or steering a run."""
    return [Update(replace(prompt, state="cancelled")) for prompt in waiting]


def few_chats(workspace: WorkspaceId) -> AtMost:
    """Return the limit of a workspace's open chats."""
    open_ones = (("workspace_id", workspace), ("is_closed", False))
    return AtMost(number=CHATS_MAX, where=open_ones, code="chats")


def _about_workspace(text: str) -> What | None:
    """Return what is asked of the task's workspace: `stop workspace` and the like."""
    words = text.lower().rstrip(".!").split()
    if len(words) != 2 or words[1] != "workspace":
        return None
    return next((what for what in NEEDS if what == words[0]), None)
