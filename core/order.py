"""Orders to nodes as records: written with the decision that causes them, answered once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.ids import NodeId, OrderId
from core.wire import OrderBody, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOrder:
    """An order and its answer.

    Attributes:
        seq: Its place in the node's queue, given by the store; 0 until then.
        subject_kind: Kind of the object whose reconciler waits for the answer.
        subject: That object's key.
        fence: Claim under which it was written.
        ok: None until it is answered.
        code: Why it failed, for machines.
        text: The same as a sentence.
    """

    id: OrderId
    node_id: NodeId
    subject_kind: str
    subject: str
    fence: int
    kind: str
    body: dict[str, Any]
    created_at: datetime
    seq: int = 0
    ok: bool | None = None
    result: dict[str, Any] | None = None
    code: str = ""
    text: str = ""
    answered_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the node still owes an answer."""
        return self.ok is None


def order(
    body: OrderBody,
    *,
    id: str,  # noqa: A002
    node: NodeId,
    subject: tuple[str, str],
    fence: int,
    at: datetime,
) -> NodeOrder:
    """Return an order for `node` whose answer wakes `subject` (kind, key)."""
    return NodeOrder(
        id=OrderId(id),
        node_id=node,
        subject_kind=subject[0],
        subject=subject[1],
        fence=fence,
        kind=body.KIND,
        body=to_json(body),
        created_at=at,
    )
