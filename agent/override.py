"""The configuration that the devcontainer CLI reads instead of the repository's own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.policy import mount_parts
from agent.trees import borrowed
from core.wire import CreateWorkspace

INSIDE = "/run/samovar"
TOOLS = "/opt/samovar/tools"
PROFILE = "profile.sh"
"""Of our tools: what login shells read."""
CLAUDE = "/opt/samovar/claude"
CLAUDE_MUSL = "/opt/samovar/claude-musl"
PIDS_MAX = 4096
GOOD = "samovar-good"
"""Below this name lie the last good images of repositories, one each."""
OWNER_LABEL = "samovar.owner"
WORKSPACE_LABEL = "samovar.workspace"
ATTEMPT_LABEL = "samovar.attempt"
BUILD_KEYS = ("build", "dockerFile", "context", "features", "dockerComposeFile", "service",
              "runServices", "overrideFeatureInstallOrder")  # fmt: skip
PLAIN_PATH = re.compile(r"/[^,\"\n\r\0]*")
"""What can stand in a mount without being read as another part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What we add to every configuration.

    Attributes:
        checkout: The working tree on this host.
        mirror: Folder of objects that the working tree borrows.
        run_dir: Host side of `/run/samovar`.
        tools: Host side of the tools, mounted read-only.
        owner: Label of the node that the container belongs to.
    """

    checkout: Path
    mirror: Path
    run_dir: Path
    tools: Path
    claude: Path
    claude_musl: Path | None
    owner: str
    cpus: float
    memory_mb: int

    def mounts(self) -> Sequence[str]:
        """Return our mounts in the string form, the only one that can be read-only."""
        fixed = [
            _mount(self.tools, TOOLS, is_readonly=True),
            _mount(self.tools / PROFILE, "/etc/profile.d/samovar.sh", is_readonly=True),
            _mount(self.claude, CLAUDE, is_readonly=True),
            _mount(self.mirror, borrowed(0), is_readonly=True),
            _mount(self.run_dir, INSIDE),
        ]
        musl = [_mount(self.claude_musl, CLAUDE_MUSL, is_readonly=True)] if self.claude_musl else []
        return [*fixed, *musl]

    def run_args(self) -> Sequence[str]:
        """Return limits as arguments of `docker run`."""
        return (
            f"--cpus={self.cpus}",
            f"--memory={self.memory_mb}m",
            f"--memory-swap={self.memory_mb}m",
            f"--pids-limit={PIDS_MAX}",
        )


def labels(owner: str, order: CreateWorkspace) -> Mapping[str, str]:
    """Return what the container of one attempt is found by, and by whom."""
    return {
        OWNER_LABEL: owner,
        WORKSPACE_LABEL: order.workspace,
        ATTEMPT_LABEL: str(order.attempt),
    }


def _mount(source: Path, target: str, *, is_readonly: bool = False) -> str:
    return f"type=bind,source={source},target={target}{',readonly' if is_readonly else ''}"


def override(raw: Mapping[str, Any], ours: Ours) -> dict[str, Any]:
    """Return `raw`, which the policy has cleaned, with our parts added."""
    return {
        **raw,
        **workspace_folder(raw, ours.checkout),
        **_build(raw),
        "init": True,
        "mounts": [*raw.get("mounts", ()), *ours.mounts()],
        "runArgs": [*raw.get("runArgs", ()), *ours.run_args()],
        "containerEnv": {
            **raw.get("containerEnv", {}),
            "CLAUDE_CONFIG_DIR": f"{INSIDE}/claude",
        },
    }


def _build(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to build: the classic builder leaves a container behind when a build fails."""
    build = raw.get("build")
    if not isinstance(build, dict):
        return {}
    return {"build": {**build, "options": [*build.get("options", ()), "--force-rm"]}}


def workspace_folder(raw: Mapping[str, Any], checkout: Path) -> dict[str, Any]:
    """Return where the checkout is mounted and which folder people work in."""
    if "dockerComposeFile" in raw:
        return {}
    wanted = str(raw.get("workspaceFolder") or f"/workspaces/{checkout.name}")
    named = mount_parts(raw.get("workspaceMount", "")).get("target", "")
    target = next(
        (path for path in (named, wanted) if PLAIN_PATH.fullmatch(path)),
        f"/workspaces/{checkout.name}",
    )
    return {
        "workspaceMount": _mount(checkout, target),
        "workspaceFolder": wanted if PLAIN_PATH.fullmatch(wanted) else target,
    }


def from_image(image: str, good: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a configuration of an image that needs no build, with what `good` adds to it."""
    kept = {name: value for name, value in (good or {}).items() if name not in BUILD_KEYS}
    return {**kept, "image": image}
