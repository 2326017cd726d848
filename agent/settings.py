"""What a node agent is told once, when it starts."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are on this node.

    Attributes:
        state: The node's own folder: mirrors, trees, workspaces, rescue bundles.
        docker_host: Docker's address in the words of `DOCKER_HOST`.
        node_js: Executable of Node.js, 18 or newer.
        devcontainer_js: `devcontainer.js` of the devcontainer CLI.
        claude: Claude Code's binary for images with glibc.
        claude_musl: The same for images with musl, if it was fetched.
        bridge: Address by which containers reach this host; None means that of Docker's bridge.
    """

    state: Path
    docker_host: str
    node_js: str
    devcontainer_js: str
    claude: Path
    claude_musl: Path | None = None
    bridge: str | None = None
