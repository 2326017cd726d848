"""Which host name asks: the pages', a workspace's own, or one that is not ours.

Every workspace has an origin of its own, `ws-{id}.{domain}`, and so has each of its ports,
`ws-{id}--{port}.{domain}`: what is shown there shares neither storage nor cookies with the pages or
with another of them.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.web.problems import HOME, refusal
from adapters.web.shield import origin_of
from core.ids import WorkspaceId

_LABEL = re.compile(r"ws-([a-z0-9]{1,40})(?:--([1-9][0-9]{0,4}))?")
WORKSPACE = "samovar.workspace"
"""Key of an ASGI scope: whose origin the request came to."""
PORT = "samovar.port"
"""Key of an ASGI scope: of which of its ports, where it is a preview's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The names of one installation.

    Attributes:
        public_url: Where people reach the pages.
        domain: What the names of workspaces end in; empty where they have none.
    """

    public_url: str
    domain: str

    def origin(self, workspace: WorkspaceId) -> str:
        """Return the origin of a workspace, as browsers write it."""
        return origin_of(f"{self._scheme}://ws-{workspace}.{self.domain}{self._port}")

    def preview(self, workspace: WorkspaceId, port: int) -> str:
        """Return the origin of a port of a workspace, as browsers write it."""
        return self.origin(WorkspaceId(f"{workspace}--{port}"))

    @property
    def anywhere(self) -> str:
        """The origins of all workspaces, as a Content-Security-Policy has them; or empty."""
        if not self.domain:
            return ""
        return origin_of(f"{self._scheme}://any.{self.domain}{self._port}").replace("any", "*", 1)

    def workspace(self, name: str) -> tuple[WorkspaceId, int | None] | None:
        """Return whose own name this is, and of which of its ports; None for others."""
        label, _, rest = name.partition(".")
        found = _LABEL.fullmatch(label) if self.domain and rest == self.domain else None
        return (WorkspaceId(found[1]), int(found[2]) if found[2] else None) if found else None

    def is_ours(self, name: str) -> bool:
        """Whether the pages may be shown under this name.

        An address in numbers is nobody's name, so it cannot be bent to us from another site.
        """
        return name in {"", "localhost", urlsplit(self.public_url).hostname} or _is_number(name)

    @property
    def _scheme(self) -> str:
        return urlsplit(self.public_url).scheme

    @property
    def _port(self) -> str:
        port = urlsplit(self.public_url).port
        return f":{port}" if port else ""


def name_in(host: str) -> str:
    """Return the name in a Host header, in small letters and without its port."""
    bare = host.rsplit("]", 1)[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return bare.strip("[]").lower().removesuffix(".")


class ByHost:
    """Middleware before all others: sends a request where its host name says.

    Attributes:
        places: What serves the workspaces' own origins.
        previews: What serves those of their ports.
        anyhow: Paths that are served under any name but a workspace's: machines bring credentials
            of their own, and our styles are no secret.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        places: ASGIApp,
        previews: ASGIApp,
        anyhow: tuple[str, ...],
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.places = places
        self.previews = previews
        self.anyhow = anyhow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        name = name_in(Headers(scope=scope).get("host", ""))
        found = self.hosts.workspace(name)
        if found is not None:
            workspace, port = found
            place = self.places if port is None else self.previews
            await place({**scope, WORKSPACE: workspace, PORT: port}, receive, send)
        elif self.hosts.is_ours(name) or self._is_for_all(scope["path"]):
            await self.app(scope, receive, send)
        else:
            home = {HOME: (f"{self.hosts.public_url}/", self.hosts.public_url)}
            answer = refusal(
                {**scope, **home},
                421,
                "unknown_host",
                f"Samovar is at {self.hosts.public_url}, not under this name.",
            )
            await answer(scope, receive, send)

    def _is_for_all(self, path: str) -> bool:
        return any(path == at or path.startswith(f"{at}/") for at in self.anyhow)


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
