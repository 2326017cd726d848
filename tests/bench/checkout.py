"""B4: a 20,000-file working tree on a warm node against a full clone.

Ours is everything from the order to a working tree on its branch: fetch into the mirror, which is
one commit behind, overlay on a ready tree of the commit before, references, checkout. The peer is
`git clone` and `git checkout -b` from the same code host. Needs root, for the overlay.
"""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agent import overlay
from agent.checkout import Checkout, choose, repository_settings
from agent.files import Layout
from agent.git import Login, git
from agent.mirror import PROTOCOLS, Mirror
from agent.process import Identity
from agent.trees import Trees
from tests.bench.row import NotRun, Row
from tests.fakes.githost import GitHost, git_host

FILES, FILE_BYTES, ROUNDS, GOAL = 20_000, 4_000, 5, 0.10
NAME, BRANCH = "bench/big", "samovar/T-1-x"
OWNER = Identity(uid=1000, gid=1000, is_reader=True)


def _files() -> dict[str, str]:
    chance = random.Random(1)
    return {
        f"d{i % 97:02d}/e{i % 13}/f{i}.py": chance.randbytes(FILE_BYTES // 2).hex()
        for i in range(FILES)
    }


class _Bench:
    def __init__(self, folder: Path, forge: GitHost) -> None:
        self._folder = folder
        self._forge = forge
        self._layout = Layout(state=folder / "state")
        self._mirror = Mirror(self._layout, NAME, forge.url(NAME))
        self._trees = Trees(self._layout, self._mirror)
        self._login = Login(url=forge.base_url, username="reader", password="read-secret")
        self._round = 0

    async def prepare(self) -> None:
        self._layout.scratch.mkdir(parents=True)
        if not await overlay.works(self._layout.scratch):
            raise NotRun("this host cannot mount overlays; run it as root")
        await self._mirror.refresh(self._login)
        await self._trees.make((await self._mirror.heads()).commits["main"], OWNER)

    async def ours(self) -> float:
        checkout = Checkout(home=self._folder / "home", name="big")
        started = time.perf_counter()
        await self._mirror.refresh(self._login)
        heads = await self._mirror.heads()
        await checkout.make(
            self._trees,
            await choose(self._mirror, heads, base="main", branch=BRANCH),
            OWNER,
            heads=heads,
            lenders=(self._mirror.path,),
            settings=repository_settings(url=self._mirror.url, push_url="http://127.0.0.1:9"),
            has_overlay=True,
        )
        took = time.perf_counter() - started
        await checkout.remove()
        return took

    async def peer(self) -> float:
        target = self._folder / "clone"
        started = time.perf_counter()
        await git(
            *("clone", "--quiet", self._mirror.url, str(target)),
            protocols=PROTOCOLS,
            login=self._login,
        )
        tree = {"GIT_WORK_TREE": str(target)}
        await git("checkout", "--quiet", "-b", BRANCH, repository=target / ".git", extra=tree)
        took = time.perf_counter() - started
        await asyncio.to_thread(shutil.rmtree, target)
        return took

    def change(self) -> None:
        self._round += 1
        self._forge.grow(NAME, {f"d00/new{self._round}.py": "new\n"})


async def _run() -> Sequence[Row]:
    folder = Path(tempfile.mkdtemp(prefix="samovar-bench-"))
    (folder / "git").mkdir()
    try:
        async with git_host(folder / "git") as forge:
            await asyncio.to_thread(forge.add, NAME, {})
            await asyncio.to_thread(forge.grow, NAME, _files())
            bench = _Bench(folder, forge)
            await bench.prepare()
            times: dict[Callable[[], Awaitable[float]], list[float]] = {}
            for _ in range(ROUNDS):
                await asyncio.to_thread(bench.change)
                for side in (bench.ours, bench.peer):
                    times.setdefault(side, []).append(await side())
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)
    ours, peer = ([value * 1000 for value in values] for values in times.values())
    name = f"B4 tree of {FILES:,} files on a warm node / full clone"
    return [Row(name=name, ours=ours, peer=peer, goal=GOAL)]


def main() -> Sequence[Row]:
    """Run both sides in turn."""
    return asyncio.run(_run())
