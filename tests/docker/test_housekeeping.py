"""What a node collects, and when; real git, real images, a clock that is turned."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import files
from agent.docker import Engine
from agent.housekeeping import Housekeeping
from agent.override import GOOD
from agent.rescue import DISCARDED, Rescue
from agent.spool import Spool
from core.ids import SessionId
from core.wire import WorkspaceReady
from tests.fakes.node_world import REPOSITORY, NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker

CONFIG = {".devcontainer.json": json.dumps({"image": base_image(), "remoteUser": "dev"})}
BUILT = {
    ".devcontainer/devcontainer.json": json.dumps({"build": {"dockerfile": "Dockerfile"}}),
    ".devcontainer/Dockerfile": f"FROM {base_image()}\nRUN echo built > /built\n",
}
DAY_S = 86_400


@dataclass
class Keeper:
    """A node, and the time on its clock."""

    world: NodeWorld
    housekeeping: Housekeeping
    spool: Spool
    turned_s: float = 0

    def now(self) -> float:
        return time.time() + self.turned_s

    async def after(self, days: float) -> None:
        """Keep house so many days from now."""
        self.turned_s = days * DAY_S
        await self.housekeeping.once()

    @property
    def state(self) -> Path:
        return self.world.settings.state

    def rescued(self) -> set[str]:
        """Return the endings of the kept copies."""
        copies = (self.state / "rescue").glob("*")
        return {path.name.rpartition("-")[2] for path in copies if path.is_file()}


@asynccontextmanager
async def keeping(folder: Path, engine: Engine | None = None) -> AsyncIterator[Keeper]:
    async with node_world(folder) as world:
        layout = files.Layout(state=world.settings.state)
        layout.state.mkdir(exist_ok=True)
        spool = Spool(layout.state / "spool.db")
        await spool.open()
        keeper = Keeper(world, None, spool)  # type: ignore[arg-type]
        keeper.housekeeping = Housekeeping(
            layout=layout,
            engine=engine or world.engine,
            spool=spool,
            images=f"{GOOD}/{files.key(REPOSITORY, world.forge.url(REPOSITORY))}",
            now=keeper.now,
        )
        try:
            yield keeper
        finally:
            await spool.close()


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(tmp_path) as opened:
        yield opened


async def collected(keeper: Keeper, script: str) -> tuple[WorkspaceReady, str]:
    """Work in a new workspace, collect, and return the commit."""
    ready = await keeper.world.create(CONFIG)
    said = await keeper.world.sh(ready, script)
    assert said.code == 0, said
    return ready, (await keeper.world.workspaces.collect(keeper.world.collecting(ready))).head


async def test_g4_a_bundle_goes_a_month_after_its_commits_are_on_the_code_host_never_before(
    keeper: Keeper,
) -> None:
    ready, head = await collected(keeper, "echo a > a && git add a && git commit -qm a")
    bundle = f"{head[:12]}.bundle"
    await keeper.after(days=400)
    assert bundle in keeper.rescued(), "nobody but this node has it"
    keeper.turned_s = 0
    await keeper.world.workspaces.push(keeper.world.pushing(ready, head))
    await keeper.after(days=29)
    assert bundle in keeper.rescued()
    await keeper.after(days=31)
    assert keeper.rescued() == set()


async def test_the_volumes_of_a_stopped_workspace_wait_a_month_for_it(keeper: Keeper) -> None:
    world = keeper.world
    mounts = ["type=volume,source=data,target=/data"]
    ready = await world.create(
        {".devcontainer.json": json.dumps({"image": base_image(), "mounts": mounts})}
    )
    await world.workspaces.save(world.saving(ready))
    await world.workspaces.delete(ready.workspace, keeps_volumes=True)
    await keeper.after(days=29)
    assert list((await world.engine.volumes(ready.workspace)).values()) == ["data"]
    await keeper.after(days=31)
    assert await world.engine.volumes(ready.workspace) == {}
    assert not world.layout.parked(ready.workspace).exists()


async def test_g4_a_bundle_with_a_stash_is_not_on_the_code_host(keeper: Keeper) -> None:
    work = "echo a > a && git add a && git commit -qm a && echo b > a && git stash -q"
    ready, head = await collected(keeper, work)
    await keeper.world.workspaces.push(keeper.world.pushing(ready, head))
    await keeper.after(days=0)
    await keeper.after(days=400)
    assert f"{head[:12]}.bundle" in keeper.rescued()


async def test_g4_what_somebody_else_pushed_counts_from_when_it_was_seen(keeper: Keeper) -> None:
    ready, head = await collected(keeper, "echo a > a && git add a && git commit -qm a")
    await keeper.world.workspaces.push(keeper.world.pushing(ready, head))
    rescue = Rescue(files.Layout(state=keeper.state))
    [copy] = rescue.copies()
    rescue.note_remote(copy, at=0)  # As if we had not pushed it.
    await keeper.after(days=40)
    assert rescue.copies()[0].remote_at == 0, "the last fetch was before"
    await keeper.world.workspaces.collect(keeper.world.collecting(ready, "T-1.2"))
    await keeper.after(days=41)
    await keeper.after(days=70)
    assert f"{head[:12]}.bundle" in keeper.rescued()
    await keeper.after(days=72)
    assert f"{head[:12]}.bundle" not in keeper.rescued()


async def test_g4_archives_go_only_a_month_after_a_person_discarded_them(keeper: Keeper) -> None:
    ready = await keeper.world.create(CONFIG)
    await keeper.world.sh(ready, "echo work > work")
    await keeper.world.workspaces.delete(ready.workspace)
    await keeper.after(days=400)
    [archive] = (keeper.state / "rescue").iterdir()
    (keeper.state / "rescue" / DISCARDED).mkdir()
    thrown = archive.rename(keeper.state / "rescue" / DISCARDED / archive.name)
    await keeper.after(days=29)
    assert thrown.exists()
    await keeper.after(days=31)
    assert not thrown.exists()


async def test_an_image_that_was_built_for_a_workspace_goes_with_it_and_the_good_one_later(
    keeper: Keeper,
) -> None:
    engine, world = keeper.world.engine, keeper.world
    ready = await world.create(BUILT)
    seen = await engine.inspect(ready.container)
    assert seen is not None
    built = seen["Config"]["Image"]
    note = next((keeper.state / "good").glob("*.json"))
    good = json.loads(note.read_bytes())["image"]
    assert await engine.image(built) is not None
    await world.workspaces.delete(ready.workspace)
    assert await engine.image(built) is None
    await keeper.after(days=29)
    assert await engine.image(good) is not None, "it is the one to fall back on"
    await keeper.after(days=31)
    assert await engine.image(good) is None
    assert not note.exists()


async def test_a_good_image_that_is_gone_is_not_looked_for_elsewhere(keeper: Keeper) -> None:
    world = keeper.world
    ready = await world.create(BUILT)
    note = next((keeper.state / "good").glob("*.json"))
    await world.workspaces.delete(ready.workspace)
    await world.engine.untag(json.loads(note.read_bytes())["image"])
    world.forge.commit(REPOSITORY, {".devcontainer/Dockerfile": "FROM samovar-absent:1\n"})
    again = await world.workspaces.create(world.order())
    assert "the default image is used instead" in again.recovered
    log = next((keeper.state / "ws" / again.workspace / "logs").glob("build-*.log")).read_text()
    assert GOOD not in log


async def test_a_repository_is_forgotten_a_month_after_its_last_workspace(keeper: Keeper) -> None:
    ready = await keeper.world.create(CONFIG)
    await keeper.after(days=400)
    assert parts(keeper) == {"mirror", "tree"}, "a workspace borrows from them"
    await keeper.world.workspaces.collect(keeper.world.collecting(ready))
    await keeper.world.workspaces.delete(ready.workspace)
    await keeper.after(days=29)
    assert parts(keeper) == {"mirror", "tree"}
    await keeper.after(days=31)
    assert parts(keeper) == set()
    keeper.turned_s = 0
    assert (await keeper.world.workspaces.create(keeper.world.order())).recovered == ""


async def test_g4_the_repository_of_a_kept_bundle_stays(keeper: Keeper) -> None:
    ready, _ = await collected(keeper, "echo a > a && git add a && git commit -qm a")
    await keeper.world.workspaces.delete(ready.workspace)
    await keeper.after(days=400)
    assert "mirror" in parts(keeper), "the bundle continues what is in it"


def parts(keeper: Keeper) -> set[str]:
    """Return which parts of the repository are on the node."""
    found = (*keeper.state.glob("mirror/*.git"), *keeper.state.glob("tree/*/*/*"))
    return {path.relative_to(keeper.state).parts[0] for path in found}


async def test_t6_a_job_that_fails_stops_no_other(tmp_path: Path) -> None:
    away = Engine("unix:///nowhere")
    try:
        async with keeping(tmp_path, engine=away) as keeper:
            await keeper.spool.note(SessionId("over"), "prompt.1", "go")
            await keeper.after(days=0)
            assert await keeper.spool.notes(SessionId("over")) == {}
    finally:
        await away.close()
