"""The node agent: `samovar-agent run` and `samovar-agent join`."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path

from agent import enrol, identity
from agent.program import Program, TakenError, alone, joined

TOKEN_VARIABLE = "SAMOVAR_JOIN_TOKEN"  # noqa: S105  the name of a variable
NOT_JOINED, TAKEN = 2, 75

log = logging.getLogger("agent")
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, event, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        more = {key: value for key, value in vars(record).items() if key not in _PLAIN}
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "at": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **more,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def main() -> None:
    """Run the program with the arguments of this process.

    Exit status: 0 let go on a signal, 1 a bug, 2 this machine could not join, 75 another node
    agent works with the state folder.
    """
    arguments = _parser().parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    state: Path = arguments.state.absolute()
    os.umask(0o022)  # Containers read what is mounted; the state folder itself is ours alone.
    try:
        with alone(state):
            if arguments.verb == "join":
                asyncio.run(_join(arguments, state))
            else:
                asyncio.run(_until_signal(_run(state)))
    except enrol.JoinError as error:
        sys.exit(_complain(error, NOT_JOINED))
    except TakenError as error:
        sys.exit(_complain(error, TAKEN))
    except Exception:  # A bug: whoever supervises us starts us again.
        log.exception("agent.crashed")
        sys.exit(1)


async def _run(state: Path) -> None:
    await Program(state, await joined(state)).run()


async def _join(arguments: argparse.Namespace, state: Path) -> None:
    if identity.load(state) is not None:
        raise enrol.JoinError(f"{state} belongs to a node already")
    cpus, memory_mb = identity.machine()
    who = await enrol.join(
        arguments.url,
        _token(arguments.token_file),
        state,
        cpus=arguments.cpus or cpus,
        memory_mb=arguments.memory or memory_mb,
    )
    sys.stdout.write(f"{who.node}\n")


async def _until_signal(work: Coroutine[object, object, None]) -> None:
    """Let go on SIGTERM or SIGINT: whatever this node drives goes on without us."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def let_go(number: int) -> None:
        loop.remove_signal_handler(signal.SIGTERM)  # A second one ends us the hard way.
        log.info("agent.lets_go", extra={"signal": number})
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, let_go, number)
    try:
        await work
    except asyncio.CancelledError:
        log.info("agent.has_let_go")


def _token(file: str) -> str:
    """Read the one-time token: never from an argument, which every process could see."""
    if file == "-":
        token = sys.stdin.readline()
    elif file:
        token = Path(file).read_text()
    else:
        token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token.strip():
        raise enrol.JoinError(f"no token: give --token-file, or set {TOKEN_VARIABLE}")
    return token.strip()


def _complain(error: Exception, status: int) -> int:
    log.error("agent.cannot_start", extra={"reason": str(error)})
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="samovar-agent", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="be a node until SIGTERM")
    join = verbs.add_parser("join", help="make this machine a node")
    join.add_argument("url", help="address of the control plane")
    join.add_argument("--token-file", default="", help="file with the one-time token, - for stdin")
    join.add_argument("--cpus", type=float, default=0.0, help="processors for workspaces; 0: all")
    join.add_argument("--memory", type=int, default=0, help="MiB for workspaces; 0: all")
    for verb in (run, join):
        verb.add_argument("--state", type=Path, required=True, help="folder of this node")
    return parser


if __name__ == "__main__":
    main()
