"""Answers git in a workspace when it asks for a credential.

Each workspace has a socket of its own in its run directory; which socket a question came through
says whose it is, nothing in the question does. The client is git's own `git credential-cache`, so
the container needs nothing but git: it connects, sends `action=get`, the attributes of
gitcredentials(7) line by line, closes its sending side and prints what it gets.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.errors import NodeError
from agent.git import origin
from core.ids import WorkspaceId

SOCKET = "git.sock"
QUESTION_BYTES_MAX = 16 * 1024
QUESTION_S_MAX = 10
PUSH_USER = "workspace"
HELPER = """#!/bin/sh
# Asks the node for a credential through this workspace's own socket.
[ "$1" = get ] || exit 0
exec git credential-cache --socket /run/samovar/git.sock get
"""

ReadLogin = Callable[[], Awaitable[tuple[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one workspace may be told.

    Attributes:
        url: Its repository on the code host.
        push_url: Its repository at the push gate.
        token: The workspace token, for the push gate.
        login: Fetches a login that may read this repository.
    """

    url: str
    push_url: str
    token: str
    login: ReadLogin


async def answer(question: Mapping[str, str], answers: Answers) -> tuple[str, str] | None:
    """Return user name and password for a question, None if it is not for this workspace."""
    asked = f"{question.get('protocol', '')}://{question.get('host', '')}"
    path = question.get("path", "")
    if question.get("action") != "get":
        return None
    if _fits(asked, path, answers.push_url):
        return PUSH_USER, answers.token
    if _fits(asked, path, answers.url):
        return await answers.login()
    return None


def _fits(asked: str, path: str, url: str) -> bool:
    try:
        same = origin(asked) == origin(url)
    except ValueError:
        return False
    return same and _bare(path) in {"", _bare(urlsplit(url).path)}


def _bare(path: str) -> str:
    return path.strip("/").removesuffix(".git")


class Broker:
    """The sockets of all workspaces of this node."""

    def __init__(self) -> None:
        self._servers: dict[WorkspaceId, asyncio.Server] = {}
        self._answers: dict[WorkspaceId, Answers] = {}

    async def open(
        self, workspace: WorkspaceId, run_dir: Path, answers: Answers, *, uid: int
    ) -> None:
        """Listen in `run_dir`; where we listen already, only what is answered changes."""
        self._answers[workspace] = answers
        folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if workspace not in self._servers or not _is_socket(folder):
                await self._bind(workspace, folder)
            os.chown(SOCKET, uid, -1, dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    async def _bind(self, workspace: WorkspaceId, folder: int) -> None:
        async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _attend(reader, writer, self._answers[workspace])

        self.close(workspace)
        with suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=folder)
        # A path through the open folder is short; a socket's name has 107 bytes at most.
        path = f"/proc/self/fd/{folder}/{SOCKET}"
        self._servers[workspace] = await asyncio.start_unix_server(attend, path)

    def close(self, workspace: WorkspaceId) -> None:
        """Stop listening for one workspace."""
        if server := self._servers.pop(workspace, None):
            server.close()

    def close_all(self) -> None:
        """Stop listening."""
        for workspace in list(self._servers):
            self.close(workspace)


def _is_socket(folder: int) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISSOCK(os.stat(SOCKET, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


async def _attend(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers
) -> None:
    try:
        async with asyncio.timeout(QUESTION_S_MAX):
            question = _parse(await _read(reader))
        writer.write(await _reply(question, answers))
        await writer.drain()
    except (TimeoutError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while chunk := await reader.read(QUESTION_BYTES_MAX):
        data += chunk
        if len(data) > QUESTION_BYTES_MAX:
            raise ValueError("a question has a few lines")
    return data


async def _reply(question: Mapping[str, str], answers: Answers) -> bytes:
    try:
        found = await answer(question, answers)
    except NodeError:
        return b"quit=1\n"
    return f"username={found[0]}\npassword={found[1]}\n".encode() if found else b""


def _parse(data: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in data.decode().splitlines())
    return {name: value for name, _, value in lines}
