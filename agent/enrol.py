"""Join the control plane with a one-time token; renew the node token while we live."""

import asyncio
import hashlib
import logging
import re
import socket
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from agent import identity
from agent.identity import Identity
from core.ids import NodeId

log = logging.getLogger(__name__)

CALL_S_MAX = 30.0
RENEW_S = 86_400.0
"""A node token is renewed when it is a day old."""
LOOK_S = 300.0


class JoinError(Exception):
    """The control plane did not take us; the text says what to do."""


async def join(url: str, once: str, state: Path, *, cpus: float, memory_mb: int) -> Identity:
    """Spend the one-time token `once` and keep who we are now.

    Our node token is on the disk before anybody hears of it, and only its hash is sent. So this may
    die at any point, or its answer be lost: with the same token it is answered the same again.

    Raises:
        JoinError: The token is not good, or the control plane cannot be reached.
    """
    url = url.rstrip("/")
    hashed = hashlib.sha256(identity.own_token(state).encode()).hexdigest()
    wish = {"name": _host_name(), "cpus": cpus, "memory_mb": memory_mb, "token_hash": hashed}
    node = await _redeem(url, once, wish)
    made = Identity(url=url, node=node, cpus=cpus, memory_mb=memory_mb)
    identity.save(state, made)
    return made


async def _redeem(url: str, once: str, wish: Mapping[str, object]) -> NodeId:
    try:
        async with aiohttp.ClientSession(timeout=_limit()) as client:
            headers = {"Authorization": f"Bearer {once}"}
            async with client.post(f"{url}/node/v1/enrol", json=wish, headers=headers) as answer:
                if answer.status == 401:
                    raise JoinError("the token is unknown, spent or over: ask for a new one")
                if answer.status != 200:
                    raise JoinError(f"{url} answered {answer.status}: is it the control plane?")
                return NodeId((await answer.json())["node"])
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise JoinError(f"{url} cannot be reached: {error or type(error).__name__}") from error


async def keep_token_fresh(
    client: aiohttp.ClientSession, url: str, state: Path, *, look_s: float = LOOK_S
) -> None:
    """Renew the node token for as long as we live. The only one who writes its file (C4)."""
    while True:
        if identity.token_age_s(state) > RENEW_S:
            try:
                await renew(client, url, state)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
                log.warning("token.not_renewed", extra={"reason": str(error)[:300]})
        await asyncio.sleep(look_s)


async def renew(client: aiohttp.ClientSession, url: str, state: Path) -> None:
    """Replace the node token by a new one; the old one stays good until the new one was used."""
    headers = {"Authorization": f"Bearer {identity.token(state)}"}
    call = client.post(
        f"{url}/node/v1/renew", headers=headers, timeout=_limit(), raise_for_status=True
    )
    async with call as answer:
        identity.save_token(state, str((await answer.json())["token"]))
    log.info("token.renewed")


def _limit() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=CALL_S_MAX)


def _host_name() -> str:
    return re.sub(r"[^\w.-]", "-", socket.gethostname())[:64] or "node"
