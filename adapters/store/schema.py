"""All tables, as SQLAlchemy sees them. The migrations make the same; a test compares the two.

There are no foreign keys: what belongs to a task is never deleted. docs/reference/database.md has a
line for each table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import SchemaItem

from adapters.store.rows import shape
from core.access import BrowserSession, DoorKey, Person, Ticket
from core.chat import Chat
from core.decision import Decision
from core.event import Event
from core.message import Post, Said, Thread
from core.node import Link, Node
from core.order import NodeOrder
from core.ports.work import SUSPECT
from core.preview import Preview, PreviewKey
from core.project import Project
from core.recording import Recording
from core.rescue import RescueCopy
from core.run import Run
from core.session import AgentSession, Prompt
from core.task import Task
from core.terminal import Terminal
from core.wire import SessionEvent
from core.workspace import Workspace

META = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _noun(name: str, kind: type[Any], key: Sequence[str], *rules: SchemaItem) -> sa.Table:
    """Return the table of a noun: one column per field, a check per enumeration."""
    columns: list[SchemaItem] = []
    checks: list[SchemaItem] = []
    for field in shape(kind).fields.values():
        columns.append(sa.Column(field.name, field.type, nullable=field.is_null))
        if field.choices:
            values = ", ".join(f"'{value}'" for value in field.choices)
            checks.append(sa.CheckConstraint(f"{field.name} IN ({values})", name=field.name))
    return sa.Table(name, META, *columns, sa.PrimaryKeyConstraint(*key), *checks, *rules)


def _only(name: str, *columns: str, where: str) -> sa.Index:
    """Return the rule that there is at most one row of these columns while `where` holds."""
    condition = sa.text(where)
    return sa.Index(name, *columns, unique=True, sqlite_where=condition, postgresql_where=condition)


def _index(name: str, *columns: str, where: str | None = None) -> sa.Index:
    condition = None if where is None else sa.text(where)
    return sa.Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


TASK = _noun("task", Task, ["id"], _index("ix_task_created", "created_at"))
RUN = _noun(
    "run",
    Run,
    ["id"],
    _only("only_one_live_run_per_task", "task_id", where="state <> 'ended'"),
    _index("ix_run_task", "task_id"),
    _index("ix_run_live", "state", where="state <> 'ended'"),
    _index("ix_run_chat", "chat_in", where="chat_in IS NOT NULL"),
)
NODE = _noun(
    "node",
    Node,
    ["id"],
    _index("ix_node_token_now", "token_hash"),
    _index("ix_node_live", "state", where="state <> 'gone'"),
)
LINK = _noun("link", Link, ["node_id"])
WORKSPACE = _noun(
    "workspace",
    Workspace,
    ["id"],
    _only("only_one_live_workspace_per_run", "run_id", where="state <> 'gone'"),
    _index("ix_workspace_task", "task_id"),
    _index("ix_workspace_token", "token_hash"),
    _index("ix_workspace_live", "node_id", where="state <> 'gone'"),
)
AGENT_SESSION = _noun(
    "agent_session",
    AgentSession,
    ["id"],
    _only("only_one_live_session_per_run", "run_id", where="state <> 'ended'"),
    _index("ix_agent_session_run", "run_id"),
    _index("ix_agent_session_task", "task_id"),
)
PROMPT = _noun(
    "prompt", Prompt, ["id"], _index("ix_prompt_run", "run_id"), _index("ix_prompt_task", "task_id")
)
DECISION = _noun(
    "decision",
    Decision,
    ["id"],
    _only("only_one_open_decision_per_request", "session_id", "request", where="state = 'open'"),
    _index("ix_decision_run", "run_id"),
    _index("ix_decision_task", "task_id"),
)
THREAD = _noun(
    "thread",
    Thread,
    ["id"],
    _only("only_one_thread_per_task", "task_id", where="task_id IS NOT NULL"),
)
INBOX = _noun(
    "inbox",
    Said,
    ["key"],
    sa.Index("only_one_row_per_message", "surface", "channel", "message", unique=True),
    _index("ix_inbox_thread", "thread"),
    _index("ix_inbox_received", "created_at", where="state = 'received'"),
)
OUTBOX = _noun(
    "outbox", Post, ["key"], _index("ix_outbox_lane", "lane"), _index("ix_outbox_task", "task_id")
)
NODE_ORDER = _noun(
    "node_order",
    NodeOrder,
    ["id"],
    sa.Index("only_one_order_per_number", "node_id", "seq", unique=True),
    _index("ix_node_order_open", "node_id", "seq", where="ok IS NULL"),
    _index("ix_node_order_subject", "subject_kind", "subject"),
)
PROJECT = _noun("project", Project, ["id"])
PERSON = _noun("person", Person, ["id"])
TICKET = _noun("ticket", Ticket, ["id"])
BROWSER_SESSION = _noun("browser_session", BrowserSession, ["id"])
DOOR_KEY = _noun("door_key", DoorKey, ["id"])

RECORDING = _noun("recording", Recording, ["id"], _index("ix_recording_workspace", "workspace_id"))
RESCUE_COPY = _noun(
    "rescue_copy",
    RescueCopy,
    ["id"],
    _only("only_one_current_copy", "workspace_id", where="state IN ('wanted', 'kept')"),
    _index("ix_rescue_copy_workspace", "workspace_id"),
    _index("ix_rescue_copy_there", "state", where="state <> 'gone'"),
)
CHAT = _noun("chat", Chat, ["id"], _index("ix_chat_workspace", "workspace_id"))
TERMINAL = _noun(
    "terminal",
    Terminal,
    ["id"],
    _only("only_one_live_terminal_per_session", "session_id", where="state <> 'exited'"),
    _index("ix_terminal_workspace", "workspace_id"),
)
PREVIEW = _noun("preview", Preview, ["id"], _index("ix_preview_workspace", "workspace_id"))
PREVIEW_KEY = _noun(
    "preview_key",
    PreviewKey,
    ["id"],
    _index("ix_preview_key_links", "workspace_id", "port", where="person_id IS NULL"),
)

TABLES: Mapping[type[Any], sa.Table] = {
    AgentSession: AGENT_SESSION,
    BrowserSession: BROWSER_SESSION,
    Chat: CHAT,
    Decision: DECISION,
    DoorKey: DOOR_KEY,
    Link: LINK,
    Node: NODE,
    NodeOrder: NODE_ORDER,
    Person: PERSON,
    Post: OUTBOX,
    Preview: PREVIEW,
    PreviewKey: PREVIEW_KEY,
    Project: PROJECT,
    Prompt: PROMPT,
    Recording: RECORDING,
    RescueCopy: RESCUE_COPY,
    Run: RUN,
    Said: INBOX,
    Task: TASK,
    Terminal: TERMINAL,
    Thread: THREAD,
    Ticket: TICKET,
    Workspace: WORKSPACE,
}
"""The table of each noun. The first column is its key."""

_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts INTEGER keys alone.
EVENT = sa.Table(
    "event",
    META,
    sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
    sa.Column("seq", sa.BigInteger),
    *(
        sa.Column(field.name, field.type, nullable=field.is_null)
        for field in shape(Event).fields.values()
        if field.name != "seq"
    ),
    sa.Index("only_one_event_per_number", "seq", unique=True),
    _index("ix_event_task", "task_id", "seq"),
    _index("ix_event_new", "id", where="seq IS NULL"),
    sqlite_autoincrement=True,
)
AGENT_EVENT = _noun("agent_event", SessionEvent, ["session", "offset"])
NODE_TOKEN = sa.Table(
    "node_token",
    META,
    sa.Column("node_id", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, nullable=False),
    _index("ix_node_token_hash", "hash"),
)
"""The next token of a node, until it is used for the first time."""
DEAD_LETTER = sa.Table(
    "dead_letter",
    META,
    sa.Column("node_id", sa.Text, primary_key=True),
    sa.Column("spool", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
)
COUNTER = sa.Table(
    "counter",
    META,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
MODEL_COST = sa.Table(
    "model_cost",
    META,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
)
REPLICA = sa.Table(
    "replica",
    META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("joined_ms", sa.BigInteger, nullable=False),
    sa.Column("lease_until_ms", sa.BigInteger, nullable=False),
)
WORK = sa.Table(
    "work",
    META,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("due_ms", sa.BigInteger),
    sa.Column("looked_ms", sa.BigInteger),
    sa.Column("owner", sa.Text),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("signals", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("attempts", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("losses", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("priority", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("last_error", sa.Text, nullable=False, server_default=""),
    _index("ix_work_due", "due_ms", where="owner IS NULL AND due_ms IS NOT NULL"),
    _index("ix_work_owner", "owner", where="owner IS NOT NULL"),
    _index("ix_work_suspect", "due_ms", where=f"losses >= {SUSPECT}"),
)
