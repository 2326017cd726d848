"""Random histories of workspaces that people stop, restart, rebuild and delete, on two machines.

The real reconcilers decide; looks are cut at every commit, machines answer late, badly or not at
all. Whatever happens, what somebody wrote in a workspace is on its machine or in the file store.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bot.lifecycle import Asked, changes
from core.errors import ConflictError, NotFoundError, UnavailableError, UserError
from core.ids import NodeId, PersonId, ProjectId, TaskId, WorkspaceId
from core.node import Link, Node
from core.order import NodeOrder
from core.ports.store import Change, Insert, Wake
from core.ports.work import Claim
from core.project import Project
from core.reconcile.copies import CopyReconciler
from core.reconcile.placing import Machines
from core.reconcile.tasks import AdmissionReconciler
from core.reconcile.workspaces import WorkspaceReconciler
from core.rescue import CURRENT, THERE, CopyState, RescueCopy
from core.wire import Saved, to_json
from core.workspace import Workspace, WorkspaceState
from tests.fakes.nouns import CLOCKS, a_link, a_node, a_project
from tests.unit.core.test_run_machine import World, run

NODES = ("node-1", "node-2")
STATES = tuple(state for state in WorkspaceState if state is not WorkspaceState.GONE)
WHATS = ("stop", "restart", "rebuild", "delete")


class Killed(BaseException):
    """The process is gone."""


class Machine(World):
    """Two nodes with disks, links that fall silent, and a process that dies at a commit."""

    def __init__(self) -> None:
        super().__init__()
        self.disks: dict[tuple[str, str], str] = {}
        self.spool: dict[tuple[str, str], bytes] = {}
        self.silent: set[str] = set()
        self.cut_after = 10**9
        self.dies = ""

    def pass_time(self, seconds: float) -> None:
        self.elapsed += seconds
        for node in NODES:
            if node not in self.silent:
                self.rows[Link, node] = a_link(node_id=node, seen_at=self.now())

    async def commit(self, *written: Change, claim: Claim | None = None) -> None:
        dies, self.dies = (self.dies, "") if claim is not None else ("", self.dies)
        if dies == "before":
            raise Killed
        await super().commit(*written, claim=claim)
        if dies == "after":
            raise Killed

    async def stream(
        self, node: str, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        if node in self.silent:
            raise UnavailableError("Node", "it is not connected")
        if (node, name) not in self.spool:
            raise NotFoundError(f"no {what} {name}")
        for at in range(offset_bytes, len(self.spool[node, name])):
            if self.cut_after <= 0:
                self.cut_after = 10**9
                raise UnavailableError("Node", "it was cut")
            self.cut_after -= 1
            yield self.spool[node, name][at : at + 1]

    def _done(self, order: NodeOrder, commits: int) -> dict[str, Any]:
        node, body = order.node_id, order.body
        where = (node, body.get("workspace", ""))
        match order.kind:
            case "create_workspace":
                if where not in self.disks:
                    self.disks[where] = self._fetched(node, body) if body["restore"] else ""
            case "save_workspace":
                content = self.disks[where].encode()
                name = hashlib.sha256(content).hexdigest()
                self.spool[node, name] = content
                saved = Saved(
                    sha256=name, size_bytes=len(content), branch="b", head="", base_commit=""
                )
                return to_json(saved)
            case "drop_copy":
                is_elsewhere = (node, order.subject) in self.disks
                assert is_elsewhere or body["sha256"] in self.files.files, "g4: the last copy goes"
                self.spool.pop((node, body["sha256"]), None)
            case "delete_workspace":
                self.disks.pop(where, None)
        return super()._done(order, commits) if order.kind == "create_workspace" else {}

    def _fetched(self, node: str, body: dict[str, Any]) -> str:
        """Fetch a copy, as a node may while its workspace is made there."""
        return self.files.files[body["restore"]].decode()


class Keeping(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = world = Machine()
        self.numbers = count(1)
        self.truth: dict[str, str] = {}
        world.rows[Project, "web"] = a_project()
        for node in NODES:
            world.rows[Node, node] = a_node(id=node, cpus=2.0, memory_mb=4096)
        world.pass_time(0)
        self.looks = {
            "workspace": WorkspaceReconciler(
                store=world,
                files=world.files,
                nodes=world,
                clock=world,
                clocks=CLOCKS,
                machines=Machines(supplier="", nodes_max=1, mint=lambda: NodeId("node-9")),
                url=lambda repo: f"u/{repo}",
                image="i",
            ),
            "copies": CopyReconciler(store=world, files=world.files, clock=world, clocks=CLOCKS),
            "admission": AdmissionReconciler(store=world),
        }
        self.someone_makes_a_workspace()
        self.all_goes_well()
        self.someone_works(0)

    # The engine

    def look(self, which: tuple[str, str]) -> None:
        kind, key = which
        del self.world.due[which]
        if kind not in self.looks:
            return
        claim = Claim(kind=kind, key=key, fence=next(self.world.fences), signals=1, attempts=1)
        try:
            due_in_s = run(self.looks[kind](claim))
        except (ConflictError, Killed):
            due_in_s = 0.0
        except UnavailableError:
            due_in_s = 5.0
        if due_in_s is not None:
            self.world.wake(kind, key, due_in_s)

    def now_due(self) -> list[tuple[str, str]]:
        return sorted(which for which, due in self.world.due.items() if due <= self.world.elapsed)

    def settle(self) -> None:
        for _ in range(200):
            due = self.now_due()
            if not due:
                return
            for which in due:
                self.look(which)
        raise AssertionError(f"never at rest: {self.now_due()}")

    # What people do

    def live(self, *states: WorkspaceState) -> list[Workspace]:
        found = self.world.all(Workspace)
        return [one for one in found if one.state in states or not states]

    @precondition(lambda self: len(self.live(*STATES)) < 3)
    @rule()
    def someone_makes_a_workspace(self) -> None:
        name, now = f"w{next(self.numbers)}", self.world.now()
        self.truth[name] = ""
        new = Workspace(
            id=WorkspaceId(name), project=ProjectId("web"), task_id=TaskId(""),
            node_id=NodeId(""), size="small", branch="b", state=WorkspaceState.REQUESTED,
            state_since=now, created_at=now,
        )  # fmt: skip
        run(self.world.commit(Insert(new), Wake("workspace", name)))

    @precondition(lambda self: self.live(*STATES))
    @rule(
        pick=st.integers(0, 9),
        what=st.sampled_from([*WHATS, "stop", "restart"]),
        is_done=st.booleans(),
    )
    def someone_asks(self, pick: int, what: Any, is_done: bool) -> None:
        found = self.live(*STATES)
        known = found[pick % len(found)]
        copies = [c for c in self.world.all(RescueCopy) if c.workspace_id == known.id]
        asked = Asked(
            workspace=known, copies=tuple(copies), has_chats=False, by=PersonId("ana"),
            at=self.world.now(), clocks=CLOCKS,
        )  # fmt: skip
        with suppress(UserError):
            run(self.world.commit(*changes(what, asked)))
        if is_done:
            self.all_goes_well()

    @precondition(lambda self: self.live(WorkspaceState.READY))
    @rule(pick=st.integers(0, 9))
    def someone_works(self, pick: int) -> None:
        ready = self.live(WorkspaceState.READY)
        known = ready[pick % len(ready)]
        if known.node_id in self.world.silent:
            return
        self.truth[known.id] += f"{next(self.numbers)};"
        self.world.disks[known.node_id, known.id] = self.truth[known.id]
        self.world.rows[Workspace, known.id] = replace(
            known, keep_until=None, version=known.version + 1
        )
        self.world.wake("workspace", known.id, CLOCKS.warm_s)

    # What machines do

    def open_orders(self) -> list[NodeOrder]:
        """The oldest open order of each workspace on each machine that answers."""
        oldest: dict[tuple[str, str], NodeOrder] = {}
        for order in self.world.all(NodeOrder):
            if order.is_open and order.node_id not in self.world.silent:
                oldest.setdefault((order.node_id, order.subject), order)
        return list(oldest.values())

    @precondition(lambda self: self.open_orders())
    @rule(pick=st.integers(0, 9), ok=st.sampled_from([True, True, True, False]))
    def a_machine_answers(self, pick: int, ok: bool) -> None:
        orders = self.open_orders()
        self.world.answer(orders[pick % len(orders)], ok=ok)

    @rule()
    def all_goes_well(self) -> None:
        """For a while: whoever is asked does it at once."""
        self.settle()
        for _ in range(5):
            for order in self.open_orders():
                self.world.answer(order, ok=True)
            self.settle()

    @rule(node=st.sampled_from(NODES))
    def a_machine_falls_silent_or_is_back(self, node: str) -> None:
        self.world.silent ^= {node}

    @rule(bytes_=st.integers(0, 5))
    def the_next_stream_is_cut(self, bytes_: int) -> None:
        self.world.cut_after = bytes_

    # What happens

    @rule(seconds=st.sampled_from([1, 1, 30, 400, 1000, 2000, 2_600_000]))
    def time_passes(self, seconds: float) -> None:
        self.settle()
        self.world.pass_time(seconds)
        self.world.wake("copies", "all")
        self.settle()

    @rule(picks=st.lists(st.integers(0, 20), max_size=5))
    def the_engine_looks(self, picks: list[int]) -> None:
        for pick in picks:
            due = self.now_due()
            if due:
                self.look(due[pick % len(due)])

    @rule(when=st.sampled_from(["before", "after"]))
    def the_process_dies_at_its_next_commit(self, when: str) -> None:
        self.world.dies = when

    @rule(number=st.integers(1, 2))
    def somebody_writes_first(self, number: int) -> None:
        self.settle()
        self.world.conflicts = number
        for kind, key in list(self.now_due()):
            self.look((kind, key))
        self.world.conflicts = 0

    # What holds whatever happens

    @invariant()
    def g4_what_was_written_is_somewhere(self) -> None:
        for known in self.live():
            if self.is_discarded(known):
                continue
            wanted = self.truth[known.id]
            on_disk = self.world.disks.get((known.node_id, known.id)) if known.node_id else None
            copies = [
                self.world.files.files.get(one.sha256)
                for one in self.world.all(RescueCopy)
                if one.workspace_id == known.id and one.state in THERE
            ]
            assert on_disk == wanted or wanted.encode() in copies or not wanted, known

    def is_discarded(self, known: Workspace) -> bool:
        """Whether its time was over: everything of it may be gone by now."""
        return known.state in {WorkspaceState.GONE, WorkspaceState.DELETING} and any(
            one.workspace_id == known.id and one.state in {CopyState.EXPIRED, CopyState.GONE}
            for one in self.world.all(RescueCopy)
        )

    @invariant()
    def a_ready_workspace_has_what_was_written(self) -> None:
        for known in self.live(WorkspaceState.READY):
            assert self.world.disks[known.node_id, known.id] == self.truth[known.id]

    @invariant()
    def a_workspace_has_one_current_copy(self) -> None:
        current = [c.workspace_id for c in self.world.all(RescueCopy) if c.state in CURRENT]
        assert len(current) == len(set(current))

    @invariant()
    def what_rests_is_on_no_machine_and_has_its_copy(self) -> None:
        for known in self.live(WorkspaceState.STOPPED):
            assert (known.node_id, known.token_hash, known.run_id) == ("", "", None)
            kept = [
                one
                for one in self.world.all(RescueCopy)
                if one.workspace_id == known.id and one.state is CopyState.KEPT
            ]
            assert len(kept) == 1
            assert kept[0].sha256 in self.world.files.files

    @invariant()
    def a_machine_is_never_overfull(self) -> None:
        for node in NODES:
            there = [one for one in self.live() if one.node_id == node]
            assert sum(one.state is not WorkspaceState.GONE for one in there) <= 1

    # Everything comes to rest

    def teardown(self) -> None:
        world = self.world
        world.silent.clear()
        world.dies, world.cut_after = "", 10**9
        world.pass_time(1)
        for _ in range(200):
            self.settle()
            for order in self.open_orders():
                world.answer(order, ok=True)
            self.settle()
            world.pass_time(600)
        rests = {WorkspaceState.STOPPED, WorkspaceState.GONE}
        assert {one.state for one in self.live()} <= rests
        self.g4_what_was_written_is_somewhere()
        assert world.spool == {} or self.is_left_by_failures()

    def is_left_by_failures(self) -> bool:
        """Copies that a machine could not remove: it keeps its own house."""
        drops = [one for one in self.world.all(NodeOrder) if one.kind == "drop_copy"]
        return not all(one.ok for one in drops)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
