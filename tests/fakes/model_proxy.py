"""What the model proxy needs around it: somebody who grants, prices, and a server to stand in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from adapters.anthropic.proxy import ModelProxy
from adapters.anthropic.upstream import Key, ProxyLimits
from core.ids import RunId, TaskId, WorkspaceId
from core.ports.grants import Grant, ModelCall
from core.prices import Price, Prices
from core.project import RepoRef
from core.secret import Secret

MODEL = "claude-opus-5-5"
PRICE = Price(
    input=Decimal(4), output=Decimal(20), cache_read=Decimal("0.4"), cache_write=Decimal(5)
)
PRICES = Prices(of={MODEL: PRICE, "claude-haiku-5-5": PRICE, "claude-sonnet-5-5": PRICE})
TOKEN = "wst_workspace"
REAL_KEY = "sk-ant-api03-CANARY"


def a_grant(*, budget: str = "3", models: frozenset[str] | None = None) -> Grant:
    return Grant(
        workspace_id=WorkspaceId("abcd1234"),
        task_id=TaskId("T-1"),
        run_id=RunId("T-1.1"),
        repository=RepoRef(owner="acme", name="web"),
        branches="samovar/T-1-",
        models=models,
        budget_usd=Decimal(budget),
        spent_usd=Decimal(0),
    )


@dataclass
class FakeGrants:
    """Grants in a dict: `held` may be changed at any time, `calls` is what was booked.

    `book_s` makes booking slow; `booking` counts what was begun.
    """

    held: dict[str, Grant] = field(default_factory=lambda: {TOKEN: a_grant()})
    calls: list[ModelCall] = field(default_factory=list)
    refused: list[Grant] = field(default_factory=list)
    book_s: float = 0.0
    booking: int = 0

    async def grant(self, token: str, *, session: str = "") -> Grant | None:
        return self.held.get(token)

    async def book(self, grant: Grant, call: ModelCall) -> None:
        self.booking += 1
        await asyncio.sleep(self.book_s)
        self.calls.append(call)
        for token, held in self.held.items():
            if held.run_id == grant.run_id:
                self.held[token] = replace(held, spent_usd=held.spent_usd + call.cost_usd)

    async def exhausted(self, grant: Grant) -> None:
        self.refused.append(grant)


async def the_key() -> Key | None:
    return Key(secret=Secret(REAL_KEY))


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve `app` under /llm of a real uvicorn, as the control plane does."""
    mounted = Starlette(routes=[Mount("/llm", app=app)])
    config = uvicorn.Config(
        mounted, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/llm"
    finally:
        await server.shutdown()


@asynccontextmanager
async def a_proxy(
    grants: FakeGrants, upstream: str, limits: ProxyLimits | None = None
) -> AsyncIterator[str]:
    """Yield the address of a proxy that workspaces can talk to."""
    proxy = ModelProxy(grants=grants, upstream=upstream, key=the_key, prices=PRICES, limits=limits)
    async with proxy, serving(proxy.app) as url:
        yield url
