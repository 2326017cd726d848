"""Random histories of leases, claims, wake-ups and deaths, against what must hold in each.

The rows are real. What the model knows: who may write, which objects somebody woke and nobody
has looked at since, and how often in a row each was lost with its owner.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from adapters.store.schema import REPLICA, WORK
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx, now_ms
from adapters.store.work import SqlWork
from core.errors import LostLease
from core.ids import ReplicaId
from core.ports.store import Wake
from core.ports.work import SUSPECT, Claim
from tests.fakes.postgres import Postgres

KEYS = st.sampled_from(["a", "b", "c", "d"])
REPLICAS = st.sampled_from([ReplicaId("r1"), ReplicaId("r2"), ReplicaId("r3")])


class Histories(RuleBasedStateMachine):
    """Three replicas and four objects, some with a past."""

    template: Path | None = None
    server: Postgres | None = None
    server_template = ""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.valid: dict[str, tuple[ReplicaId, Claim]] = {}
        self.stale: list[Claim] = []
        self.unseen: set[str] = set()
        self.losses: Counter[str] = Counter()
        self.waiting: set[str] = set()
        self.fences: dict[str, int] = {}
        self.alive: set[ReplicaId] = set()
        self.store = self.runner.run(self._open())
        self.work = SqlWork(self.store.database)
        for key, losses in (("a", SUSPECT), ("b", SUSPECT), ("c", SUSPECT - 1)):
            self.somebody_wakes(key)
            self.losses[key] = losses
            self._run(sa.update(WORK).where(WORK.c.key == key).values(losses=losses))

    async def _open(self) -> SqlStore:
        if self.server is not None:
            url = await self.server.create(template=self.server_template)
        else:
            assert self.template is not None
            self.folder = Path(tempfile.mkdtemp())
            shutil.copy(self.template, self.folder / "x.db")
            url = f"sqlite:///{self.folder / 'x.db'}"
        return await self.stack.enter_async_context(open_store(url))

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        self.runner.run(self.stack.aclose())
        self.runner.close()
        if self.server is None:
            shutil.rmtree(self.folder)

    def _void(self, key: str, *, is_loss: bool) -> None:
        """The claim on an object is no longer anybody's; it must be looked at again.

        A suspect that waits does so for longer than the history lasts.
        """
        _, claim = self.valid.pop(key)
        self.stale.append(claim)
        self.unseen.add(key)
        if is_loss:
            self.losses[key] += 1
            if self._is_suspect(key):
                self.waiting.add(key)
                later = sa.update(WORK).where(WORK.c.key == key, WORK.c.due_ms > now_ms())
                self._run(later.values(due_ms=WORK.c.due_ms + 3_600_000))

    def _is_suspect(self, key: str) -> bool:
        return self.losses[key] >= SUSPECT

    def _run(self, statement: sa.Executable) -> None:
        async def job(tx: Tx) -> None:
            await tx.run(statement)

        self.runner.run(self.store.database.write(job))

    @rule(replica=REPLICAS)
    def a_replica_joins(self, replica: ReplicaId) -> None:
        """On SQLite whoever joins is alone."""
        self.runner.run(self.work.join(replica, url="", version="", lease_s=3600))
        alone = self.server is None
        for key, (owner, _) in [*self.valid.items()]:
            if alone or owner == replica:
                self._void(key, is_loss=owner != replica)
        self.alive = {replica} if alone else self.alive | {replica}

    @rule(key=KEYS)
    def somebody_wakes(self, key: str) -> None:
        self.runner.run(self.store.commit(Wake("job", key)))
        self.unseen.add(key)
        self.waiting.discard(key)

    @precondition(lambda self: self.waiting)
    @rule()
    def suspects_have_waited(self) -> None:
        self._run(sa.update(WORK).where(WORK.c.due_ms.is_not(None)).values(due_ms=0))
        self.waiting.clear()

    @rule(replica=REPLICAS, limit=st.integers(1, 4))
    def a_replica_claims(self, replica: ReplicaId, limit: int) -> None:
        claims = self.runner.run(self.work.claim(replica, ["job"], limit=limit))
        free = {key for key in self.unseen - self.waiting if key not in self.valid}
        suspects = {key for key in free if self._is_suspect(key)}
        held = {key for key, (owner, _) in self.valid.items() if owner == replica}
        has_room = not any(self._is_suspect(key) for key in held)
        count = len(free - suspects) + (has_room and bool(suspects))
        assert len(claims) == (min(limit, count) if replica in self.alive else 0)
        assert sum(claim.key in suspects for claim in claims) <= has_room
        for claim in claims:
            assert claim.key in free
            assert claim.losses == self.losses[claim.key]
            assert claim.fence > self.fences.get(claim.key, 0)
            self.fences[claim.key] = claim.fence
            self.valid[claim.key] = (replica, claim)
            self.unseen.discard(claim.key)

    @precondition(lambda self: self.valid)
    @rule(data=st.data(), again=st.booleans())
    def a_look_ends(self, data: st.DataObject, again: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.valid)))
        _, claim = self.valid.pop(key)
        self.runner.run(self.work.give_back(claim, due_in_s=0 if again else None))
        self.stale.append(claim)
        self.losses[key] = 0
        if again:
            self.unseen.add(key)

    @precondition(lambda self: self.valid)
    @rule(data=st.data())
    def a_look_never_comes_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.valid)))
        self.runner.run(self.work.drop(self.valid[key][1]))
        self._void(key, is_loss=True)

    @precondition(lambda self: self.valid)
    @rule(data=st.data())
    def a_look_writes(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.valid)))
        self.runner.run(self.store.commit(Wake("other", key), claim=self.valid[key][1]))

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), gives_back=st.booleans())
    def a_zombie_writes(self, data: st.DataObject, gives_back: bool) -> None:
        claim = data.draw(st.sampled_from(self.stale))
        back = self.work.give_back(claim, due_in_s=0)
        commit = self.store.commit(Wake("job", claim.key), claim=claim)
        (back, commit)[gives_back].close()
        with pytest.raises(LostLease):
            self.runner.run((commit, back)[gives_back])

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_lease_ends(self, data: st.DataObject) -> None:
        replica = data.draw(st.sampled_from(sorted(self.alive)))
        self._run(sa.update(REPLICA).where(REPLICA.c.id == replica).values(lease_until_ms=0))
        self.alive.discard(replica)
        assert not self.runner.run(self.work.beat(replica, lease_s=3600))

    @rule()
    def somebody_takes_over(self) -> None:
        dead = [key for key, (owner, _) in self.valid.items() if owner not in self.alive]
        assert self.runner.run(self.work.take_over()) == len(dead)
        for key in dead:
            self._void(key, is_loss=True)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_replica_leaves(self, data: st.DataObject) -> None:
        replica = data.draw(st.sampled_from(sorted(self.alive)))
        self.runner.run(self.work.leave(replica))
        self.alive.discard(replica)
        for key in [k for k, (owner, _) in self.valid.items() if owner == replica]:
            self._void(key, is_loss=False)

    @invariant()
    def nothing_that_was_woken_is_forgotten_and_nothing_has_two_owners(self) -> None:
        if not hasattr(self, "work"):
            return
        query = sa.select(WORK).where(WORK.c.kind == "job")
        rows = {row["key"]: row for row in self.runner.run(self.store.database.read(query))}
        owned = {key: row["owner"] for key, row in rows.items() if row["owner"] is not None}
        assert owned == {key: owner for key, (owner, _) in self.valid.items()}
        due = {key for key, row in rows.items() if row["due_ms"] is not None}
        assert due == self.unseen


def test_histories_on_sqlite(sqlite_template: Path) -> None:
    class OnSqlite(Histories):
        template = sqlite_template

    run_state_machine_as_test(OnSqlite)


@pytest.mark.postgres
def test_histories_on_postgresql(postgres_server: Postgres, postgres_template: str) -> None:
    class OnPostgresql(Histories):
        server = postgres_server
        server_template = postgres_template

    run_state_machine_as_test(OnPostgresql)
