"""Port: where machines come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from core.ids import NodeId
from core.project import Size
from core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A machine as its supplier sees it.

    Attributes:
        ref: The supplier's name for it.
        node_id: The node it was made for, from its labels.
        is_running: False while it boots, is off, or its node agent has to be started again.
        labels: What we wrote on it; `samovar.installation` says whose it is.
    """

    ref: str
    node_id: NodeId
    is_running: bool
    labels: Mapping[str, str] = field(default_factory=dict)


class Compute(Protocol):
    """Where machines come from.

    Promises, each held by a test of the same number in `tests/contracts/test_compute.py`:

    1. `create` is idempotent by `node_id`: asking twice bills one machine.
    2. `destroy` is idempotent: a machine that is gone already is no error.
    3. `servers` lists every machine that carries our installation's label, also those that this
       process forgot, and none of another installation.
    4. Only `core.errors.OutsideError` and its kinds leave these methods.
    5. The label is on the machine from its first moment; `create` may be cut at any point and a
       later `create` or `destroy` finds what was made.
    """

    async def create(self, node_id: NodeId, *, size: Size, enrolment: Secret) -> Server:
        """Ask for a machine, which may still be booting when this returns.

        It is for a workspace of that size, and never smaller where there is a choice (N10). With
        `enrolment`, a one-time token, its node agent joins.
        """
        ...

    async def destroy(self, ref: str) -> None:
        """Stop paying for a machine. Whatever is on it is lost."""
        ...

    async def servers(self) -> Sequence[Server]:
        """Return all machines that we pay for."""
        ...
