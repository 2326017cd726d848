"""Claude Code's own files and how it is called."""

import json
import os
import shlex
import stat
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from itertools import islice, takewhile
from typing import BinaryIO

from agent.claude.protocol import SERVER
from agent.driver import Program, SessionSpec
from agent.errors import NodeError
from agent.mailbox import (
    ERRORS,
    EXIT,
    FIFO,
    JOURNAL,
    PID,
    Line,
    make_below,
    open_below,
    whole_lines,
)
from core.wire import Json

FOLDER = "claude"
"""`CLAUDE_CONFIG_DIR` below the run directory, so that conversations outlive their container."""
ARGUMENT_BYTES_MAX = 100_000
"""Linux takes 131,072 bytes in one argument."""
SETTINGS_BYTES_MAX = 16 << 20
WANTED = "want"
HOLDER = "terminal"
"""Names the terminal that a conversation was left to, for whoever starts it by hand."""
ACCEPTED = {"skipDangerousModePermissionPrompt": True}
"""Answers what Claude Code would ask in a terminal about the mode that the session has anyway."""
TAIL_BYTES = 1 << 20
"""What is taken over of a transcript at a time, and the rest of the last line."""
TRANSCRIPT_BYTES_MAX = 1 << 30
"""A thousand long turns. A larger one is somebody's who wants the node to read for ever."""
FOLDERS_MAX = 1000
OUR_TOOLS = {"mcpServers": {SERVER: {"type": "sdk", "name": SERVER}}}
"""Named on the command line too, or a resumed turn begins before it has them (measured)."""


def seed(spec: SessionSpec) -> None:
    """Answer beforehand what Claude Code would ask in a terminal: theme and trust."""
    make_below(spec.run_dir, FOLDER, uid=spec.uid, gid=spec.gid)
    settings = _settings(spec)
    projects = settings.get("projects")
    projects = projects if isinstance(projects, dict) else {}
    known = projects.get(spec.folder)
    trusted = {**(known if isinstance(known, dict) else {}), "hasTrustDialogAccepted": True}
    wanted: Json = {
        "theme": "dark",
        **settings,
        "hasCompletedOnboarding": True,
        "projects": {**projects, spec.folder: trusted},
    }
    if wanted != settings:
        replace_small(spec, FOLDER, ".claude.json", text=json.dumps(wanted))


def _settings(spec: SessionSpec) -> Json:
    try:
        file = open_below(spec.run_dir, FOLDER, ".claude.json", flags=os.O_RDONLY)
    except FileNotFoundError:
        return {}
    with os.fdopen(file, "rb") as opened:
        try:
            value = json.loads(opened.read(SETTINGS_BYTES_MAX))
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def replace_small(spec: SessionSpec, *parts: str, text: str) -> None:
    """Write a small file of the session's user anew."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(open_below(spec.run_dir, *parts, flags=flags), "wb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NodeError(
                "mailbox_invalid",
                f"{parts[-1]} in the session's folder was replaced; restart the workspace.",
            )
        os.fchown(file.fileno(), spec.uid, spec.gid)
        file.write(text.encode())


class Transcript:
    """What Claude Code itself remembers of a conversation.

    The file is its user's, who may make it as large as they like: what reads it takes a line at a
    time, up to `TRANSCRIPT_BYTES_MAX`, and belongs into a thread.
    """

    def __init__(self, spec: SessionSpec) -> None:
        self._spec = spec

    def exists(self) -> bool:
        """Return whether there is a conversation to resume. Reads it."""
        return any(b'"type":"user"' in line.text for line in self._all())

    def holds(self, prompt: str) -> bool:
        """Return whether a prompt was taken into the conversation. Reads it."""
        mark = prompt.encode()
        return any(
            mark in line.text and b'"queue-operation"' not in line.text for line in self._all()
        )

    def _all(self) -> Generator[Line]:
        for file in self._files():
            yield from _bounded(file, 0)

    def size(self) -> int:
        """Return how many bytes there are now."""
        return max((os.fstat(file.fileno()).st_size for file in self._files()), default=0)

    def lines(self, offset: int) -> list[Line]:
        """Return the next whole lines from byte `offset` on; empty where there are none."""
        for file in self._files():
            if os.fstat(file.fileno()).st_size > offset:
                lines = _bounded(file, offset)
                return list(takewhile(lambda line: line.start < offset + TAIL_BYTES, lines))
        return []

    def _files(self) -> Generator[BinaryIO]:
        """Open the conversation; it lies below a folder named after the working directory."""
        root = self._spec.run_dir
        try:
            folder = open_below(root, FOLDER, "projects", flags=os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, FOLDERS_MAX)]
        finally:
            os.close(folder)
        for name in names:
            parts = (FOLDER, "projects", name, f"{self._spec.session}.jsonl")
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                os.fdopen(open_below(root, *parts, flags=os.O_RDONLY), "rb") as file,
            ):
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    yield file


def _bounded(file: BinaryIO, offset: int) -> Iterable[Line]:
    file.seek(offset)
    return takewhile(lambda line: line.end <= TRANSCRIPT_BYTES_MAX, whole_lines(file, offset))


def arguments(spec: SessionSpec, *, resume: bool) -> list[str]:
    """Return the command line; see `claude --help`.

    Raises:
        NodeError: `frame_invalid`: the frame cannot be an argument.
    """
    if "\0" in spec.frame or len(spec.frame.encode(errors="replace")) > ARGUMENT_BYTES_MAX:
        raise NodeError(
            "frame_invalid",
            "The task's title or checks are too long for the coding agent; shorten them.",
        )
    session = [f"--resume={spec.session}"] if resume else [f"--session-id={spec.session}"]
    if spec.continues and not resume:
        session += [f"--resume={spec.continues}", "--fork-session"]
    return [
        spec.claude, "-p", "--input-format", "stream-json", "--output-format", "stream-json",
        "--verbose", "--include-partial-messages", "--replay-user-messages", *session,
        f"--permission-mode={spec.mode}", "--permission-prompt-tool", "stdio",
        f"--append-system-prompt={spec.frame}", f"--model={spec.model}",
        "--strict-mcp-config", f"--mcp-config={json.dumps(OUR_TOOLS)}", "--forward-subagent-text",
    ]  # fmt: skip


def script(spec: SessionSpec, inside: str, *, resume: bool, start: int) -> str:
    """Return the shell script that starts Claude Code and writes down how it ended.

    A start that was overtaken by a later one (`want`) does nothing: there is one process.
    """
    command = shlex.join(arguments(spec, resume=resume))
    folder = shlex.quote(f"{inside}/s/{spec.session}")
    return (
        f'cd {folder} || exit; S=$PWD; [ "$(cat {WANTED})" = {start} ] || exit; '
        f"mkdir start.{start} || exit; "
        f'cd {shlex.quote(spec.folder)} || {{ echo 126 >"$S/{EXIT}"; exit; }}; '
        f'{command} <>"$S/{FIFO}" >>"$S/{JOURNAL}" 2>"$S/{ERRORS}" & '
        f'echo $! >"$S/{PID}"; wait $!; echo $? >"$S/{EXIT}"'
    )


def environment(spec: SessionSpec, inside: str, *, resume: bool) -> Mapping[str, str]:
    """Return the environment of Claude Code: the user's own and what it needs from us."""
    env = {"CLAUDE_CODE_MAX_RETRIES": "4", **spec.env}
    env.pop("ANTHROPIC_API_KEY", None)  # It would win over the workspace's token.
    env |= {
        "CLAUDE_CONFIG_DIR": f"{inside}/{FOLDER}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
        "SAMOVAR_SESSION": spec.session,
    }
    if resume:
        env["CLAUDE_CODE_RESUME_INTERRUPTED_TURN"] = "1"
        env["CLAUDE_CODE_RESUME_REASON"] = "container_recreated"
    return env


def program(spec: SessionSpec, inside: str) -> Program:
    """Return how a person goes on with the conversation in a terminal.

    What we add for ourselves is left out: our tools and how a task is to be worked on.
    """
    command = (
        spec.claude,
        f"--resume={spec.session}",
        f"--permission-mode={spec.mode}",
        f"--model={spec.model}",
        f"--settings={json.dumps(ACCEPTED)}",
    )
    return Program(command=command, env=environment(spec, inside, resume=False))


def tail_of(errors: str | None, *, lines_max: int = 5) -> str:
    """Return the last lines of the error output, for people."""
    kept = [line.strip() for line in (errors or "").splitlines() if line.strip()]
    return "\n".join(line[:500] for line in kept[-lines_max:])
