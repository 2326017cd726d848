"""Frames between the control plane and a node agent. The only part of `core` that `agent` imports.

One JSON object per WebSocket text frame: `{"seq": 7, "ack": 3, "type": "order", "body": {…}}`.
`seq` counts the durable messages of one direction from 1; 0 marks one that is not kept (hello,
ping, status, requests and their replies). `ack` is the highest `seq` that the sender has stored.
What is not acknowledged is sent again after a reconnect, so every durable message is idempotent.
At most `WINDOW` durable messages of `WINDOW_BYTES` in all are on their way unacknowledged, so a
slow receiver stops its sender and nothing else on the link.
"""

import collections.abc
import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from core.ids import NodeId, OrderId, RunId, SessionId, TerminalId, WorkspaceId

PROTOCOL = 1
"""Version of this module's shapes. A node with another one is drained, not spoken to."""

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Largest frame that either side sends or reads; longer session events are cut by the node."""
WINDOW = 256
"""Most durable messages that one side sends ahead of their acknowledgement."""
WINDOW_BYTES = 4 * 1024 * 1024
"""Most bytes of them; a single message above it travels alone."""
ACK_S = 0.2
"""Longest wait before what was stored is acknowledged."""
STREAM_CHUNK_BYTES = 64 * 1024
"""Size of the binary messages of a stream."""

CLOSE_REPLACED = 4409
"""The same node dialled again; the older link ends with this code."""
CLOSE_VERSION = 4426
"""The other side speaks another `PROTOCOL`; the reason names both."""
CLOSE_SILENT = 4408
"""Nothing was heard for two heartbeats."""
CLOSE_UNREADABLE = 4400
"""The first frame was no `Hello`, or not of the node whose token was shown."""
CLOSE_MISSING = 4404
"""On a stream: the node has no such thing; the reason says what."""

Json = dict[str, Any]
"""A JSON object as `json.loads` returns it; nested values are JSON too."""


class FrameError(ValueError):
    """The other side sent what this version cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message on the link."""

    type: str
    body: Json
    seq: int = 0
    ack: int = 0

    def encode(self) -> str:
        """Return the text of one WebSocket frame. Half surrogate pairs become question marks."""
        text = json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)
        return text if text.isascii() else text.encode("utf-8", "replace").decode()

    @classmethod
    def decode(cls, text: str) -> "Frame":
        """Read one WebSocket frame; unknown keys are ignored.

        Raises:
            FrameError: If it is no JSON object with a type and a body.
        """
        try:
            raw = json.loads(text)
            if "\\ud" in text.lower():  # An escaped half pair would break the next UTF-8 encoder.
                whole = json.dumps(raw, ensure_ascii=False).encode("utf-8", "replace")
                raw = json.loads(whole)
            kind, body = raw["type"], raw["body"]
            seq, ack = raw.get("seq", 0), raw.get("ack", 0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FrameError(f"not a frame: {text[:80]!r}") from error
        counts = _is_count(seq) and _is_count(ack)
        if not counts or not isinstance(kind, str) or not isinstance(body, dict):
            raise FrameError(f"not a frame: {text[:80]!r}")
        return cls(type=kind, body=body, seq=seq, ack=ack)


def frame(message: "Message", *, seq: int = 0, ack: int = 0) -> Frame:
    """Return the frame that carries `message`."""
    return Frame(type=message.TYPE, body=to_json(message), seq=seq, ack=ack)


def encode_stored(kind: str, body: str, *, seq: int, ack: int) -> str:
    """Return the text of a frame whose body is JSON text already; both as `encode` makes them."""
    return f'{{"type":"{kind}","body":{body},"seq":{seq},"ack":{ack}}}'


def encode_body(value: object) -> str:
    """Return a dataclass of this module as JSON text, to be kept. See `Frame.encode`."""
    text = json.dumps(to_json(value), separators=(",", ":"), ensure_ascii=False)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT_END


_INT_END = 2**63
"""Whole numbers outside of 64 bits are refused: no database column holds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First frame of the node: who it is and how far it has heard.

    Attributes:
        spool: Random name of the node's spool; a new one means that its memory is lost.
        received: Highest `seq` of the control plane that the node has stored.
        cpus: Processors that workspaces may use in all.
        memory_mb: Mebibytes that workspaces may use in all.
    """

    TYPE: ClassVar[str] = "hello"
    protocol: int
    node: NodeId
    version: str
    spool: str
    received: int
    cpus: float
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """Answer to `Hello`: how far the control plane has heard, and how often to beat."""

    TYPE: ClassVar[str] = "welcome"
    received: int
    heartbeat_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """A sign of life in a data frame; the answer is `Pong` with the same number."""

    TYPE: ClassVar[str] = "ping"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answer to `Ping`."""

    TYPE: ClassVar[str] = "pong"
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Carries nothing but the `ack` of its frame, when nothing else is to be said."""

    TYPE: ClassVar[str] = "ack"


# Orders: control plane to node. Each travels inside `Order`.


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateWorkspace:
    """Make sure that the workspace is there and running; the answer is `WorkspaceReady`.

    Attributes:
        attempt: Counts rebuilds; containers, logs and errors belong to one attempt.
        url: Where to fetch the repository, without credentials.
        base: Branch to start from; empty means the remote's default branch.
        branch: Branch to work on; continued if the remote has it already.
        cpus: Limit of the container in processors.
        memory_mb: Limit of the container in mebibytes.
        devcontainer: Name of the configuration below `.devcontainer/`, empty for the default.
        image: Default image, for repositories without a configuration and as last resort.
        allow: Policy findings that the project permits, by code.
        restore: SHA-256 of the rescue copy that is put into the fresh checkout; empty for none.
    """

    KIND: ClassVar[str] = "create_workspace"
    workspace: WorkspaceId
    attempt: int
    repository: str
    url: str
    base: str
    branch: str
    cpus: float
    memory_mb: int
    devcontainer: str
    image: str
    allow: tuple[str, ...] = ()
    restore: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceReady:
    """Answer to `CreateWorkspace`.

    Attributes:
        base_commit: Where the work starts.
        token_hash: SHA-256, in hex, of the workspace token that the node made.
        recovered: Why a fall-back image is used; empty if the repository's own one is.
        notes: Sentences for the card, such as what the policy removed.
        restored: Sentences: what was put back from a rescue copy (commits, stash, changed files,
            untracked, conversations, terminal history) and what could not come back.
    """

    workspace: WorkspaceId
    attempt: int
    container: str
    user: str
    folder: str
    base: str
    base_commit: str
    token_hash: str
    recovered: str = ""
    notes: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveWorkspace:
    """Make a rescue copy of the workspace, read back and compared; the answer is `Saved`.

    The terminals and sessions in it have been ended before or are ended by it.
    """

    KIND: ClassVar[str] = "save_workspace"
    workspace: WorkspaceId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Answer to `SaveWorkspace`.

    Attributes:
        sha256: Of the copy, in hex; it is on the node until `DropCopy`.
        branch: What is checked out; empty for no branch.
        head: Its commit, empty before the first one.
        base_commit: Where the work starts.
        left_out: The first 100 things that are not in the copy, sentences or names.
        left_out_count: How many there are in all.
    """

    sha256: str
    size_bytes: int
    branch: str
    head: str
    base_commit: str
    left_out: tuple[str, ...] = ()
    left_out_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DropCopy:
    """The control plane has the copy: the node may remove its own; gone already is fine."""

    KIND: ClassVar[str] = "drop_copy"
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteWorkspace:
    """Remove the container and the files. What was not published must have been bundled before.

    Attributes:
        discard: Whether a person gave up what is in it: then the node makes no copy of its own of
            what nobody collected.
        keeps_volumes: Whether it is stopped and may come back: then its own volumes stay on the
            node for 30 days, for the copy that was made of it last.
    """

    KIND: ClassVar[str] = "delete_workspace"
    workspace: WorkspaceId
    discard: bool = False
    keeps_volumes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSession:
    """Make sure that the coding agent runs; resumes the conversation if it existed.

    Attributes:
        frame: What is appended to the coding agent's system prompt.
        mode: Permission mode in Claude Code's words.
        continues: Earlier session of the same workspace whose conversation goes on in this one
            (a fork: the earlier one is not written to); empty for a new conversation.
        is_chat: Whether people talk to it as long as they like: it is not reminded of an end.
    """

    KIND: ClassVar[str] = "start_session"
    session: SessionId
    run: RunId
    workspace: WorkspaceId
    model: str
    frame: str
    mode: str = "bypassPermissions"
    continues: str = ""
    is_chat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPrompt:
    """Give a prompt. `prompt` is its delivery id, a UUID4; it is sent at most once."""

    KIND: ClassVar[str] = "send_prompt"
    session: SessionId
    prompt: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerQuestion:
    """Answer what the coding agent asked.

    Attributes:
        request: The id of the question, from its event.
        allow: Whether a permission is given or a plan accepted; True for questions.
        answers: Question text to answer text.
        message: What the coding agent is told when it is not allowed.
    """

    KIND: ClassVar[str] = "answer_question"
    session: SessionId
    request: str
    allow: bool = True
    answers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """Stop the turn, drop what is queued; the session stays."""

    KIND: ClassVar[str] = "interrupt"
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSession:
    """End the coding agent and make sure that none of its processes is left."""

    KIND: ClassVar[str] = "stop_session"
    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Commit what is left, take the commits out of the workspace, compare; answer `Collected`."""

    KIND: ClassVar[str] = "collect"
    workspace: WorkspaceId
    run: RunId
    message: str
    author: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One line of the change between base and head. Binary files count no lines."""

    path: str
    added: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What the workspace holds, measured outside of it.

    Attributes:
        head: Commit of the branch; equal to `base_commit` when nothing was done.
        base_commit: Where the branch left the base branch.
        remote: Commit of the branch on the code host, empty if it is not there.
        commits: Number of commits from base to head.
        left: Files that were not committed and why, as sentences (secrets).
        bundle: File name of the kept copy on the node, empty when there is nothing to keep.
    """

    head: str
    base_commit: str
    remote: str
    commits: int
    files: tuple[FileChange, ...] = ()
    left: tuple[str, ...] = ()
    bundle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChecks:
    """Run commands in a fresh container of the workspace's image at `commit`; answer `Checked`."""

    KIND: ClassVar[str] = "run_checks"
    workspace: WorkspaceId
    run: RunId
    commit: str
    commands: tuple[str, ...]
    time_limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check. `exit_code` is -1 when the time was over."""

    command: str
    exit_code: int
    took_s: float
    tail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Answer to `RunChecks`."""

    commit: str
    results: tuple[CheckResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Push `commit` to `branch` of the repository, never another branch; answer `Pushed`."""

    KIND: ClassVar[str] = "push"
    workspace: WorkspaceId
    run: RunId
    commit: str
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Answer to `Push`."""

    commit: str
    branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTerminal:
    """Make sure that a terminal is there; one that has exited stays so.

    Attributes:
        command: What runs in it; empty for the user's own login shell.
        columns: Width until a viewer says another, in cells, as are `rows`.
    """

    KIND: ClassVar[str] = "open_terminal"
    workspace: WorkspaceId
    terminal: TerminalId
    command: tuple[str, ...] = ()
    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseTerminal:
    """End what runs in a terminal and forget it; gone already is fine."""

    KIND: ClassVar[str] = "close_terminal"
    workspace: WorkspaceId
    terminal: TerminalId


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """End the coding agent and open its conversation in a terminal, which alone writes to it then.

    A turn that runs is interrupted. It is done once per terminal, also if that has ended since.
    """

    KIND: ClassVar[str] = "hand_over"
    session: SessionId
    workspace: WorkspaceId
    terminal: TerminalId


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBack:
    """End what is left of a session's terminal and let the coding agent go on by itself.

    A session that is not in this terminal stays as it is.
    """

    KIND: ClassVar[str] = "take_back"
    session: SessionId
    terminal: TerminalId


OrderBody = (
    CreateWorkspace
    | SaveWorkspace
    | DropCopy
    | DeleteWorkspace
    | StartSession
    | SendPrompt
    | AnswerQuestion
    | Interrupt
    | StopSession
    | Collect
    | RunChecks
    | Push
    | OpenTerminal
    | CloseTerminal
    | HandOver
    | TakeBack
)
ORDERS: Mapping[str, type[OrderBody]] = {
    kind.KIND: kind
    for kind in (
        CreateWorkspace,
        SaveWorkspace,
        DropCopy,
        DeleteWorkspace,
        StartSession,
        SendPrompt,
        AnswerQuestion,
        Interrupt,
        StopSession,
        Collect,
        RunChecks,
        Push,
        OpenTerminal,
        CloseTerminal,
        HandOver,
        TakeBack,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Something the node is to do.

    Attributes:
        object: What it is about, `run:T-142.1`; a node keeps the highest fence of each.
        fence: Claim under which it was written; a lower one than known is refused.
    """

    TYPE: ClassVar[str] = "order"
    id: OrderId
    object: str
    fence: int
    kind: str
    body: Json

    def read(self) -> OrderBody:
        """Return the body as the dataclass of its kind.

        Raises:
            FrameError: If this version does not know the kind or the body is not of its shape.
        """
        kind = ORDERS.get(self.kind)
        if kind is None:
            raise FrameError(f"unknown order {self.kind:.40}")
        return from_json(kind, self.body)


# Reports: node to control plane, durable.


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswer:
    """The end of an order: `result` if it was done, else `code` and a sentence for people."""

    TYPE: ClassVar[str] = "order_answer"
    order: OrderId
    ok: bool
    result: Json = field(default_factory=dict)
    code: str = ""
    text: str = ""


StepState = Literal["started", "done", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceStep:
    """How far a workspace is: `fetch`, `tree`, `policy`, `build`, `start`, `hooks`, `probe`.

    Attributes:
        limit_s: With `started`: after how many seconds the node gives the step up; 0 for none.
        then: What it does then, as a sentence without its full stop.
    """

    TYPE: ClassVar[str] = "workspace_step"
    workspace: WorkspaceId
    attempt: int
    step: str
    state: StepState
    at: str
    text: str = ""
    limit_s: float = 0.0
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalExited:
    """What ran in a terminal has ended.

    Attributes:
        code: Exit code, or minus a signal's number.
        text: How else it ended, as a sentence; then `code` says nothing. Empty for an exit.
    """

    TYPE: ClassVar[str] = "terminal_exited"
    workspace: WorkspaceId
    terminal: TerminalId
    code: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent:
    """One fact of an agent session, in the coding agent's order.

    Attributes:
        offset: Position in the session's journal; grows, unique per session.
        kind: One of `EVENT_KINDS`.
        at: UTC, ISO 8601.
    """

    session: SessionId
    run: RunId
    offset: int
    kind: str
    at: str
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvents:
    """Some events of one session, in order. A repeated offset is ignored by the receiver."""

    TYPE: ClassVar[str] = "session_events"
    session: SessionId
    events: tuple[SessionEvent, ...]


EVENT_KINDS: Mapping[str, str] = {
    "session.state": "state: starting|idle|busy|in_terminal|ended, reason, exit_code?, terminal?",
    "prompt.state": "prompt, state: queued|started|completed|cancelled|ambiguous|lost",
    "message.user": "prompt?, text, terminal?: where it was typed",
    "message.text": "message, text, parent?",
    "message.thinking": "message, text, parent?",
    "message.reset": "message: a retry threw its partial text away",
    "tool.start": "tool, name, title, input, parent?",
    "tool.end": "tool, ok, summary, diff?, output?",
    "background": "tasks: [{id, kind, title}]; the whole set",
    "question.open": "request, kind: question|permission|plan, title, questions: [{text, header, "
    "options: [{label, description}], multiple}], tool?, input?",
    "question.closed": "request, by: answered|withdrawn",
    "progress": "text, percent?",
    "complete": "summary, answer?",
    "notice": "level: info|warning|error, code, text",
    "turn.end": "prompts, ok, reason, text, cost_usd?, retry_s?, code?: authentication_failed|"
    "billing_error|overloaded|server_error|connection_failed|usage_limit_reached|interrupted|…",
}
"""Kinds of session events and the keys of their data. `message.delta` is sent but never stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDelta:
    """Text as it is written, for viewers; not durable, not counted."""

    TYPE: ClassVar[str] = "session_delta"
    session: SessionId
    message: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """Heartbeat of a node. Not durable: the newest one counts."""

    TYPE: ClassVar[str] = "node_status"
    load: float
    memory_free_mb: int
    disk_free_mb: int
    workspaces: tuple[WorkspaceId, ...] = ()
    sessions: tuple[SessionId, ...] = ()


# Requests and replies, not durable: whoever asked asks again after a reconnect.


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRequest:
    """The node wants a git credential for the repository of one workspace.

    Attributes:
        number: Chosen by the node, unique per link; the answer carries the same.
        scope: `read` for the helper inside the workspace, `write` for an ordered push.
    """

    TYPE: ClassVar[str] = "credential_request"
    number: int
    workspace: WorkspaceId
    scope: Literal["read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Answer to `CredentialRequest`; with a code it was refused."""

    TYPE: ClassVar[str] = "credential"
    number: int
    username: str = ""
    password: str = ""
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """The control plane waits at `/node/v1/stream/{ticket}` for the named thing.

    Attributes:
        what: `build_log`, `bundle`, `rescue`, `recording`, `folder`, `file`, `changes` or `ports`.
        name: Which one: a workspace id, a bundle's file name, a rescue copy's SHA-256,
            `{workspace}/{terminal}`, `{workspace}/{percent-encoded path}`.
        offset_bytes: Where to begin in it, where that can be.
    """

    TYPE: ClassVar[str] = "open_stream"
    ticket: str
    what: str
    name: str
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewTerminal:
    """A viewer waits at `/node/v1/stream/{ticket}`; what is said there is in `core.viewing`.

    Attributes:
        viewer: Name of the person, for the others who look.
        writes: Whether they may type; the node refuses input of those who may not.
    """

    TYPE: ClassVar[str] = "view_terminal"
    ticket: str
    workspace: WorkspaceId
    terminal: TerminalId
    viewer: str
    writes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectPort:
    """Somebody waits at `/node/v1/stream/{ticket}` for a TCP connection to a port of a workspace.

    The node says an empty message once it is connected; from then on each message is bytes of the
    connection, both ways. Without a connection it closes with `CLOSE_MISSING`, and the code of why
    not is the reason. The end of what the workspace says is the close code 1000.
    """

    TYPE: ClassVar[str] = "connect_port"
    ticket: str
    workspace: WorkspaceId
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutFile:
    """Somebody waits at `/node/v1/stream/{ticket}` to write a file of a workspace.

    The node says an empty message once it takes the file; then come its bytes, and an empty message
    after the last. When the file is in its place, whole, the node says an empty message. A refusal
    is a close with `CLOSE_MISSING`, and its code is the reason; then nothing was changed.

    Attributes:
        path: Percent-encoded, below the checkout; see `core.browse`.
        size_bytes: How many will come; -1 where nobody knows.
        replaces: Whether a file that is there may be replaced.
    """

    TYPE: ClassVar[str] = "put_file"
    ticket: str
    workspace: WorkspaceId
    path: str
    size_bytes: int = -1
    replaces: bool = False


Pipe = ConnectPort | PutFile
"""What a stream by ticket may be for, besides a viewer, where both sides speak."""
Report = OrderAnswer | WorkspaceStep | SessionEvents | TerminalExited
"""What a node's spool keeps until the control plane has stored it."""
REPORTS: Mapping[str, type[Report]] = {
    kind.TYPE: kind for kind in (OrderAnswer, WorkspaceStep, SessionEvents, TerminalExited)
}

Message = (
    Hello
    | Welcome
    | Ping
    | Pong
    | Ack
    | Order
    | OrderAnswer
    | WorkspaceStep
    | SessionEvents
    | SessionDelta
    | NodeStatus
    | CredentialRequest
    | Credential
    | OpenStream
    | TerminalExited
    | ViewTerminal
    | ConnectPort
    | PutFile
)


T = TypeVar("T")


def to_json(value: object) -> Json:
    """Return a dataclass of this module as a JSON object."""
    plain = _plain(value)
    if not isinstance(plain, dict):
        raise TypeError(f"{type(value).__name__} is not a message")
    return plain


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _shape(kind: Hashable) -> Mapping[str, object]:
    assert isinstance(kind, type)  # noqa: S101  the cache wants a hashable argument
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def from_json(kind: type[T], body: object) -> T:
    """Read a dataclass of this module. Unknown keys are ignored, missing ones take their default.

    Raises:
        FrameError: If a key is missing or of another type.
    """
    if not isinstance(body, dict):
        raise FrameError(f"{kind.__name__}: not an object")
    shape = _shape(cast("Hashable", kind))
    try:
        return kind(**{name: _read(shape[name], body[name]) for name in shape if name in body})
    except (TypeError, ValueError) as error:
        raise FrameError(f"{kind.__name__}: {error}") from error


def read_as(kind: type[T], heard: Frame) -> T:
    """Read the frame's body as the one type of message that is expected here.

    Raises:
        FrameError: If it is another type or not of its shape.
    """
    if heard.type != getattr(kind, "TYPE", None):
        raise FrameError(f"{heard.type:.40} instead of {kind.__name__}")
    return from_json(kind, heard.body)


def _read(hint: Any, value: object) -> object:
    """Return `value` as the annotation `hint` wants it."""
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{value!r:.80} is not a list")
        return tuple(_read(get_args(hint)[0], item) for item in value)
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{value!r:.80} is not one of {get_args(hint)}")
        return value
    if is_dataclass(hint):
        return from_json(hint if isinstance(hint, type) else type(hint), value)
    plain = dict if origin in {dict, Mapping, collections.abc.Mapping} else _plain_type(hint)
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise ValueError(f"{value!r:.80} is not {plain.__name__}")
    if plain is int and isinstance(value, int) and not -_INT_END <= value < _INT_END:
        raise ValueError("a whole number of more than 64 bits")
    return value


def _plain_type(hint: Any) -> type:
    while hasattr(hint, "__supertype__"):  # A NewType of ids.
        hint = hint.__supertype__
    return hint if isinstance(hint, type) else object
