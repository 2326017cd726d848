"""A node agent's side of one shell, to be killed: `python -m tests.fakes.terminal_process PLAN`.

PLAN is JSON: the fields of the shell, and the Docker host if it is in a container. It opens the
shell, or finds it, and prints a line once something came.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agent.docker import Engine
from agent.terminal.line import Lines, Shell
from agent.terminal.lines import ContainerLines
from core.viewing import Size
from tests.fakes.terminals import HostLines


async def look(lines: Lines, shell: Shell) -> None:
    line = await lines.open(shell)
    _, data = await line.read()
    print(len(data), flush=True)
    await asyncio.Event().wait()


async def main(plan: dict[str, Any]) -> None:
    values = plan["shell"]
    values["run_dir"] = Path(values["run_dir"])
    values["size"] = Size(*values["size"])
    values["command"] = tuple(values["command"])
    lines = ContainerLines(Engine(plan["docker"])) if plan["docker"] else HostLines()
    await look(lines, Shell(**values))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
