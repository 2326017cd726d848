"""Find and read a repository's devcontainer configuration without leaving its checkout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import jsonc
from agent.errors import NodeError

SIZE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A repository's configuration.

    Attributes:
        path: Its file.
        raw: Its content; empty when `fault` is set.
        fault: What is wrong with the file, as a clause; empty if nothing is.
    """

    path: Path
    raw: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


def find(checkout: Path, name: str) -> Configuration | None:
    """Return the configuration `name`, or the default one for an empty name, None without one.

    Raises:
        NodeError: `unknown_devcontainer` if the named one does not exist, `policy_refused` if it
            is a link that leaves the checkout.
    """
    if name:
        if name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
            raise _unknown(name, checkout)
        candidates = [checkout / ".devcontainer" / name / "devcontainer.json"]
    else:
        candidates = [
            checkout / ".devcontainer/devcontainer.json",
            checkout / ".devcontainer.json",
        ]
    for path in candidates:
        if path.is_symlink() or path.exists():
            return _read(path, checkout)
    if name:
        raise _unknown(name, checkout)
    return None


def names(checkout: Path) -> Sequence[str]:
    """Return the names of the configurations that can be chosen by name."""
    found = (checkout / ".devcontainer").glob("*/devcontainer.json")
    return sorted(path.parent.name for path in found)


def _read(path: Path, checkout: Path) -> Configuration:
    if not is_inside(path, checkout):
        raise NodeError(
            "policy_refused",
            f"{path.relative_to(checkout)} is a link that leaves the repository; "
            "put the file itself there.",
        )
    try:
        with path.open("rb") as file:
            text = file.read(SIZE_BYTES_MAX).decode("utf-8")
        return Configuration(path=path, raw=jsonc.loads(text))
    except jsonc.SyntaxFault as error:
        return Configuration(path=path, fault=f"line {error.line}: {error.reason}")
    except (OSError, UnicodeDecodeError) as error:
        return Configuration(path=path, fault=str(error)[:200])


def is_inside(path: Path, checkout: Path) -> bool:
    """Say whether `path` is in the checkout when every link on the way is followed."""
    try:
        return path.resolve().is_relative_to(checkout.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def is_closed(folder: Path, checkout: Path) -> bool:
    """Say whether no link below `folder` leaves the checkout."""
    links = (path for path in folder.rglob("*") if path.is_symlink())
    return all(is_inside(link, checkout) for link in links)


def _unknown(name: str, checkout: Path) -> NodeError:
    there = ", ".join(names(checkout)) or "none"
    return NodeError(
        "unknown_devcontainer",
        f"The repository has no devcontainer configuration {name!r:.80}; it has: {there}.",
    )
