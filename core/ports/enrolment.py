"""Port: how a machine becomes a node of ours."""

from typing import Protocol

from core.ids import NodeId


class Enrolment(Protocol):
    """Tokens of nodes. A machine makes its node token itself; only its SHA-256 is known here.

    Promises:

    1. `redeem` is one conditional UPDATE: of any number of machines with one token exactly one
       becomes a node. None for a token that is spent, over (15 min) or unknown.
    2. `redeem` of a spent token by the machine that spent it, with the same hash, is answered
       again: neither a lost answer nor a machine that died before it read it wastes a token.
    3. `renew` returns a new node token; the old one stays valid until the new one was used, so
       an answer that is lost on its way locks nobody out. None for a token that is not valid.
    """

    async def redeem(
        self, token: str, *, token_hash: str, name: str, cpus: float, memory_mb: int
    ) -> NodeId | None:
        """Spend a one-time token; return the id of the node.

        `token_hash` is the SHA-256, in hex, of the node token that the machine made.
        """
        ...

    async def renew(self, token: str) -> str | None:
        """Return a new node token for the bearer of a valid one."""
        ...
