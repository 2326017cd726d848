"""One life of a node's terminals as a process of its own, to be killed: opens a terminal, or finds
it again, and goes on until then."""

import asyncio
import sys
from pathlib import Path

from tests.fakes.local_lines import LocalLines
from tests.fakes.terminal_node import an_order, living


async def live(state: Path, run_dir: Path, command: list[str]) -> None:
    async with living(state, LocalLines(run_dir), run_dir) as life:
        await life.terminals.open(an_order(*command))
        print("open", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
