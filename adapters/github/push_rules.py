"""What a workspace may push (pure)."""

from collections.abc import Sequence

from adapters.github.pkt import Command


def refusals(commands: Sequence[Command], branches: str) -> dict[str, str]:
    """Return why each ref is refused; nothing if all of them may be pushed."""
    reasons = {
        command.ref: reason for command in commands if (reason := _reason(command, branches))
    }
    if reasons:
        for command in commands:
            reasons.setdefault(
                command.ref, "not pushed, because another ref of this push is refused"
            )
    return reasons


def _reason(command: Command, branches: str) -> str:
    branch = command.ref.removeprefix("refs/heads/")
    if branch == command.ref or not branch.startswith(branches) or branch == branches:
        return f"this task may push only branches that begin with {branches}"
    if command.is_delete:
        return "branches are not deleted from a workspace"
    return ""
