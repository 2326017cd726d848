"""Where Samovar keeps what it keeps on this machine."""

import os
from pathlib import Path

SOCKET = "api.sock"
"""The JSON API in the state folder; whoever may open it is the local administrator."""


def state_dir() -> Path:
    """Return `$SAMOVAR_STATE`, or `samovar` in the folder for state of the XDG specification."""
    named = os.environ.get("SAMOVAR_STATE")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "samovar"
