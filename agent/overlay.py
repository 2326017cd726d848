"""Mount an overlay on a ready tree, where this host can."""

# ruff: noqa: ASYNC240  calls for one file on the node's own disk
import os
import re
from collections.abc import Collection
from pathlib import Path

from agent import files
from agent.process import run

MOUNT_S = 30


async def mount(lower: Path, upper: Path, work: Path, target: Path) -> bool:
    """Mount an overlay at `target`; mounted already is fine. False if this host cannot."""
    if os.path.ismount(target):
        return True
    if os.geteuid() != 0 or any(c in f"{lower}{upper}{work}" for c in ",:\\"):
        return False
    work.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    return await _run("mount", "-t", "overlay", "overlay", "-o", options, "--", str(target))


async def unmount(target: Path) -> None:
    """Take the overlay away. Somebody who is still in it keeps it until they leave."""
    while os.path.ismount(target):
        if not await _run("umount", "--", str(target)):
            await _run("umount", "--lazy", "--", str(target))


def lowers() -> Collection[Path]:
    """Return the lower folders of all overlays that are mounted."""
    options = (line.split(" ")[3] for line in Path("/proc/self/mounts").read_text().splitlines())
    found = (re.search(r"(?:^|,)lowerdir=([^,]+)", option) for option in options)
    return {Path(match[1]) for match in found if match}


async def works(scratch: Path) -> bool:
    """Try whether an overlay can be mounted below `scratch`, which is true of no overlay."""
    probe = scratch / "overlay"
    files.remove(probe)
    for name in ("lower", "upper"):
        (probe / name).mkdir(parents=True)
    target = probe / "target"
    done = await mount(probe / "lower", probe / "upper", probe / "work", target)
    if done:
        await unmount(target)
    files.remove(probe)
    return done


async def _run(*argv: str) -> bool:
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}
    return (await run(argv, environment=environment, time_limit_s=MOUNT_S)).code == 0
