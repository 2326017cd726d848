"""Port `compute`: machines that are only entries of a dictionary."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from core.errors import OutsideError
from core.ids import NodeId
from core.ports.compute import Server
from core.project import Size
from core.secret import Secret


@dataclass(slots=True, kw_only=True)
class MemoryCompute:
    """Machines that are only numbers.

    Attributes:
        rows: What the supplier has, by its own name; shared by several to be one supplier.
        enrolments: The token that each machine was made with, by node.
        sizes: What each machine was asked for, by node.
        bill: Machines made so far.
        fail_next: Lever: the error that the next call of a method raises before it acts.
        lose_next: Lever: methods whose next call acts and then raises this error.
    """

    installation: str = "memory"
    rows: dict[str, Server] = field(default_factory=dict)
    enrolments: dict[NodeId, Secret] = field(default_factory=dict)
    sizes: dict[NodeId, Size] = field(default_factory=dict)
    bill: int = 0
    fail_next: dict[str, OutsideError] = field(default_factory=dict)
    lose_next: dict[str, OutsideError] = field(default_factory=dict)

    async def create(self, node_id: NodeId, *, size: Size, enrolment: Secret) -> Server:
        """See `Compute.create`."""
        self.sizes[node_id] = size
        self._fail("create", self.fail_next)
        ref = f"memory-{node_id}"
        if ref not in self.rows:
            self.bill += 1
            labels = {"samovar.installation": self.installation, "samovar.node": node_id}
            self.enrolments[node_id] = enrolment
            self.rows[ref] = Server(ref=ref, node_id=node_id, is_running=False, labels=labels)
        self._fail("create", self.lose_next)
        return self.rows[ref]

    async def destroy(self, ref: str) -> None:
        """See `Compute.destroy`."""
        self._fail("destroy", self.fail_next)
        self.rows.pop(ref, None)
        self._fail("destroy", self.lose_next)

    async def servers(self) -> Sequence[Server]:
        """See `Compute.servers`."""
        self._fail("servers", self.fail_next)
        ours = self.installation
        return [s for s in self.rows.values() if s.labels["samovar.installation"] == ours]

    def boot_all(self) -> None:
        """Let every machine run."""
        self.rows = {ref: replace(server, is_running=True) for ref, server in self.rows.items()}

    def _fail(self, method: str, lever: dict[str, OutsideError]) -> None:
        if (error := lever.pop(method, None)) is not None:
            raise error
