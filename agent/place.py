"""Where the processes of a workspace run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is needed to start something in a workspace.

    Attributes:
        container: Docker's id.
        user: The devcontainer's remote user, by name.
        uid: The same in numbers, as is `gid`.
        folder: Where people work inside.
        env: The environment as that user sees it in a terminal.
        run_dir: Host side of `/run/samovar`.
        config_dir: Claude Code's own directory inside, on the run directory.
        token: The workspace token, for model proxy and push gate.
        claude: Path of the coding agent's binary inside.
    """

    container: str
    user: str
    uid: int
    gid: int
    folder: str
    env: Mapping[str, str]
    run_dir: Path
    config_dir: str
    token: str = field(repr=False)
    claude: str
