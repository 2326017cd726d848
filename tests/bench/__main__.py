"""The numbers that the documentation quotes: `./samovar bench [NAME …]`.

Exit status: 0 every goal of what ran was met, 1 one was missed, 2 there is no such name. What
lacks something of the outside says so and is counted as not run.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bot.setup.checkout import VARIABLES
from bot.setup.dockerd import Dockerd
from bot.setup.outfit import RUN, may_install, provide
from bot.state import state_dir
from tests.bench.row import NotRun, Row, table

OUTSIDE = (*RUN, "postgres")
"""What some of the scripts take."""
HELPERS = {"__main__", "outside", "peers", "row"}


def main(names: Sequence[str]) -> int:
    """Run the named scripts, or all, and print one table."""
    known = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - HELPERS)
    if unknown := sorted({*names} - {*known}):
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Leave no container or server behind.
    own_engine = Dockerd(state_dir() / "docker")
    was_running = own_engine.is_running()
    try:
        with own_engine.in_use():
            _equip()
            return _report(*_measure(names or known))
    finally:
        if not was_running:
            own_engine.stop()


def _measure(names: Sequence[str]) -> tuple[Sequence[Row], Sequence[str]]:
    """Return the rows of the scripts, and one line for each that could not run."""
    rows: list[Row] = []
    left_out: list[str] = []
    for name in names:
        began = time.monotonic()
        _say(f"bench: {name} …")
        try:
            found: Sequence[Row] = import_module(f"tests.bench.{name}").main()
        except NotRun as error:
            left_out.append(f"{name}: {error}")
            _say(f"bench: {name} not run: {error}")
        else:
            rows += found
            _say(f"{table(found)}\nbench: {name} took {time.monotonic() - began:.0f} s")
    return rows, left_out


def _report(rows: Sequence[Row], left_out: Sequence[str]) -> int:
    missed = [row.name for row in rows if row.verdict == "MISSED"]
    if rows:
        print(table(rows))
    for line in left_out:
        print(f"not run: {line}")
    for name in missed:
        print(f"missed: {name}")
    print(f"{len(rows)} rows, {len(missed)} goals missed, {len(left_out)} scripts not run")
    return 1 if missed else 0


def _equip() -> None:
    """Tell the scripts where the outside parts are, unless the environment does."""
    if all(os.environ.get(VARIABLES[name]) for name in OUTSIDE if name in VARIABLES):
        return
    found, _ = provide(OUTSIDE, state=state_dir(), install=may_install(), progress=_say)
    for name in found.keys() & VARIABLES.keys():
        os.environ.setdefault(VARIABLES[name], found[name])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
