"""Fetch a rescue copy from the control plane, however often the way is cut."""

# ruff: noqa: ASYNC240  calls for one file on the node's own disk
import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import aiohttp

from agent import disk, files
from agent.errors import NodeError

log = logging.getLogger(__name__)

TRIES_MAX = 20
"""In a row without a byte between them."""
PAUSE_S = 1.0
SILENCE_S = 60.0


@asynccontextmanager
async def fetched(
    client: aiohttp.ClientSession,
    url: str,
    token: Callable[[], str],
    layout: files.Layout,
    sha256: str,
    *,
    pause_s: float = PAUSE_S,
) -> AsyncGenerator[Path]:
    """Yield the copy with this SHA-256, which stays for as long as the body runs.

    It is fetched unless the node has it; what the node has is neither changed nor removed.

    Raises:
        NodeError: `copy_missing` if there is no such copy for this node, `copy_unreachable`, or
            `disk_full`.
    """
    try:
        own = layout.copy(sha256)
    except ValueError as error:
        raise _missing() from error
    layout.scratch.mkdir(parents=True, exist_ok=True)
    part = layout.scratch / f"{sha256}.{token_hex(4)}"
    try:
        if own.exists():
            part.hardlink_to(own)
        else:
            await _fetch(client, f"{url}/node/v1/files/{sha256}", token, part, pause_s)
            if await asyncio.to_thread(_sha256, part) != sha256:
                raise NodeError("copy_unreachable", "The rescue copy came damaged; try again.")
        yield part
    finally:
        part.unlink(missing_ok=True)


async def _fetch(
    client: aiohttp.ClientSession, url: str, token: Callable[[], str], part: Path, pause_s: float
) -> None:
    part.touch(mode=0o600)
    try:
        await _insist(client, url, token, part, pause_s)
    except OSError as error:
        if disk.is_full(error):
            raise disk.full(part.parent) from error
        raise


async def _insist(
    client: aiohttp.ClientSession, url: str, token: Callable[[], str], part: Path, pause_s: float
) -> None:
    tries = 0
    while True:
        before = part.stat().st_size
        try:
            await _go_on(client, url, token(), part)
        except (aiohttp.ClientError, TimeoutError) as error:
            tries = 1 if part.stat().st_size > before else tries + 1
            if tries >= TRIES_MAX:
                raise NodeError(
                    "copy_unreachable", "The rescue copy could not be fetched; try again."
                ) from error
            log.warning("copy.fetch_cut", extra={"reason": str(error)[:200]})
            await asyncio.sleep(pause_s)
        else:
            return


async def _go_on(client: aiohttp.ClientSession, url: str, token: str, part: Path) -> None:
    with part.open("ab") as file:
        headers = {"Authorization": f"Bearer {token}"}
        if file.tell():
            headers["Range"] = f"bytes={file.tell()}-"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
        async with client.get(url, headers=headers, timeout=timeout) as answer:
            if answer.status in {401, 404}:
                raise _missing()
            answer.raise_for_status()
            if answer.status == 200:
                file.truncate(0)
            async for piece in answer.content.iter_any():
                file.write(piece)
                file.flush()


def _missing() -> NodeError:
    return NodeError("copy_missing", "There is no such rescue copy for this node; choose another.")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
