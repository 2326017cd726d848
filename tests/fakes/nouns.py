"""Nouns with sensible values, for tests that care about one of them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from core.chat import Chat
from core.clocks import Clocks
from core.decision import Decision, DecisionState
from core.ids import (
    CopyId,
    DecisionId,
    NodeId,
    PersonId,
    ProjectId,
    RunId,
    SessionId,
    TaskId,
    TerminalId,
    ThreadId,
    WorkspaceId,
)
from core.node import Link, Node, NodeState
from core.order import NodeOrder
from core.plan.draft import RunView
from core.project import Project
from core.recording import Recording, RecordingState
from core.rescue import CopyState, RescueCopy
from core.run import Run, RunState
from core.session import AgentSession, Prompt, SessionState
from core.task import Task, TaskState
from core.terminal import Terminal, TerminalState
from core.wire import SessionEvent
from core.workspace import Workspace, WorkspaceState

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CLOCKS = Clocks()
SESSION = SessionId("5f0f7a3e-6a40-4b6e-9c0e-0d7a9a7b6c11")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def a_project(**values: Any) -> Project:
    return Project(**{"id": ProjectId("web"), "repository": "acme/web", **values})


def a_task(**values: Any) -> Task:
    return Task(
        **{
            "id": TaskId("T-1"),
            "project": ProjectId("web"),
            "thread": ThreadId("web:web:1"),
            "asked_by": PersonId("ana"),
            "kind": "task",
            "title": "Fix the cart",
            "slug": "fix-the-cart",
            "prompt": "Fix the cart.",
            "branch": "samovar/T-1-fix-the-cart",
            "state": TaskState.ACTIVE,
            "state_since": NOW,
            "created_at": NOW,
            "runs": 1,
            **values,
        }
    )


def a_run(**values: Any) -> Run:
    return Run(
        **{
            "id": RunId("T-1.1"),
            "task_id": TaskId("T-1"),
            "asked_by": PersonId("ana"),
            "number": 1,
            "state": RunState.WORKING,
            "state_since": NOW,
            "created_at": NOW,
            "deadline_at": at(3600),
            "started_at": NOW,
            "heard_at": NOW,
            "node_id": NodeId("node-1"),
            "workspace_id": WorkspaceId("wabcdefg"),
            "session_id": SESSION,
            "budget_usd": Decimal(3),
            **values,
        }
    )


def a_node(**values: Any) -> Node:
    return Node(
        **{
            "id": NodeId("node-1"),
            "supplier": "local",
            "state": NodeState.READY,
            "state_since": NOW,
            "created_at": NOW,
            "cpus": 4.0,
            "memory_mb": 16384,
            **values,
        }
    )


def a_link(**values: Any) -> Link:
    return Link(**{"node_id": NodeId("node-1"), "replica": "r-1", "seen_at": NOW, **values})


def a_workspace(**values: Any) -> Workspace:
    return Workspace(
        **{
            "id": WorkspaceId("wabcdefg"),
            "project": ProjectId("web"),
            "task_id": TaskId("T-1"),
            "run_id": RunId("T-1.1"),
            "node_id": NodeId("node-1"),
            "size": "small",
            "branch": "samovar/T-1-fix-the-cart",
            "state": WorkspaceState.READY,
            "state_since": NOW,
            "created_at": NOW,
            "base": "main",
            **values,
        }
    )


def a_copy(**values: Any) -> RescueCopy:
    return RescueCopy(
        **{
            "id": CopyId("wabcdefg-1"),
            "workspace_id": WorkspaceId("wabcdefg"),
            "project": ProjectId("web"),
            "task_id": TaskId("T-1"),
            "why": "stopped",
            "state": CopyState.KEPT,
            "state_since": NOW,
            "created_at": NOW,
            "branch": "samovar/T-1-fix-the-cart",
            "sha256": "ab" * 32,
            "size_bytes": 7,
            "made_at": NOW,
            "expires_at": at(CLOCKS.copy_s),
            **values,
        }
    )


def a_recording(**values: Any) -> Recording:
    return Recording(
        **{
            "id": TerminalId("t-0000aaaa"),
            "workspace_id": WorkspaceId("wabcdefg"),
            "state": RecordingState.WANTED,
            "created_at": NOW,
            **values,
        }
    )


def a_chat(**values: Any) -> Chat:
    return Chat(
        **{
            "id": TaskId("T-2"),
            "workspace_id": WorkspaceId("wabcdefg"),
            "title": "Why is it slow?",
            "position": 0,
            "opened_by": PersonId("ana"),
            "created_at": NOW,
            **values,
        }
    )


def a_terminal(**values: Any) -> Terminal:
    return Terminal(
        **{
            "id": TerminalId("t-0000aaaa"),
            "workspace_id": WorkspaceId("wabcdefg"),
            "title": "Shell",
            "position": 0,
            "opened_by": PersonId("ana"),
            "state": TerminalState.OPEN,
            "state_since": NOW,
            "created_at": NOW,
            **values,
        }
    )


def a_session(**values: Any) -> AgentSession:
    return AgentSession(
        **{
            "id": SESSION,
            "run_id": RunId("T-1.1"),
            "task_id": TaskId("T-1"),
            "workspace_id": WorkspaceId("wabcdefg"),
            "model": "m",
            "state": SessionState.BUSY,
            "created_at": NOW,
            **values,
        }
    )


def a_prompt(**values: Any) -> Prompt:
    return Prompt(
        **{
            "id": "p-1",
            "task_id": TaskId("T-1"),
            "run_id": RunId("T-1.1"),
            "by": PersonId("ana"),
            "text": "Fix the cart.",
            "state": "completed",
            "created_at": NOW,
            **values,
        }
    )


def an_event(offset: int, kind: str, /, **data: Any) -> SessionEvent:
    return SessionEvent(
        session=SESSION,
        run=RunId("T-1.1"),
        offset=offset,
        kind=kind,
        at=NOW.isoformat(),
        data=data,
    )


def an_answer(name: str, *, ok: bool = True, **values: Any) -> NodeOrder:
    return NodeOrder(
        **{
            "id": name,
            "node_id": NodeId("node-1"),
            "subject_kind": "run",
            "subject": "T-1.1",
            "fence": 1,
            "kind": "x",
            "body": {},
            "created_at": NOW,
            "ok": ok,
            **values,
        }
    )


def a_view(**values: Any) -> RunView:
    orders = {order.id: order for order in values.pop("orders", ())}
    return RunView(
        **{
            "task": a_task(),
            "run": a_run(),
            "project": a_project(),
            "now": at(10),
            "fence": 1,
            "clocks": CLOCKS,
            "model": "m",
            "surface": "web",
            "installation": "here",
            "workspace": a_workspace(),
            "node": a_node(),
            "link": a_link(),
            "session": a_session(),
            "prompts": (a_prompt(),),
            "orders": orders,
            **values,
        }
    )


def a_decision(**values: Any) -> Decision:
    return Decision(
        **{
            "id": DecisionId("s:q1"),
            "task_id": TaskId("T-1"),
            "run_id": RunId("T-1.1"),
            "kind": "question",
            "title": "Which colour?",
            "request": "q1",
            "state": DecisionState.OPEN,
            "state_since": NOW,
            "created_at": NOW,
            **values,
        }
    )
