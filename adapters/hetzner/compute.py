"""Port `compute`: machines of Hetzner Cloud.

Facts that shape this file (hcloud 2.27.0 read and run; docs.hetzner.cloud):

- The client repeats a request whose answer was late, also the one that makes a server. So the
  node's id is the server's name, which is unique in a project: a second one is refused, and what
  the first one made is found and taken.
- It has no time limits of its own, and waits for actions in the thread. We look ourselves.
- A server that is switched off costs as much as one that runs. Only deleting it ends that.
- What is deleted is listed until its action has ended.
- `server_types` says what is to be had where, and what it costs; nothing of that is known here.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ParamSpec, TypeVar

from hcloud import APIException, Client
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType as ApiServerType
from hcloud.servers import BoundServer

from adapters.hetzner.errors import SYSTEM, translate
from adapters.hetzner.offers import Offer, Refusals, ServerType, offers
from adapters.lane import Lane
from core.errors import AppError, CapacityError, RefusedError, UnavailableError
from core.ids import NodeId
from core.ports.compute import Server
from core.project import Size
from core.secret import Secret

INSTALLATION, NODE = "samovar.installation", "samovar.node"
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Which is also the value of a label, and nothing that a selector would read otherwise."""
SOCKET_TIMEOUT_S = (5.0, 30.0)
CALL_TIMEOUT_S = 240.0
"""Of one request with the client's own repeats: five, up to a minute apart."""
WORKERS = 4
TYPES_KEPT_S = 600.0
GONE_S_MAX = 120.0
LOOK_S = 1.0
PAGE = 50
P = ParamSpec("P")
T = TypeVar("T")

UserData = Callable[[NodeId, Secret], str]
"""Returns what a machine does when it boots for the first time: 32 KiB at most."""


@dataclass(slots=True, kw_only=True)
class HetznerCompute:
    """Machines of one project at Hetzner. The SDK blocks, so each call runs in our lane.

    Attributes:
        installation: Whose machines these are; a label's value.
        image: Name or number of the image that they boot.
        locations: Where they may be, the preferred ones first.
        architectures: `x86`, `arm`.
        look_s: How often it is asked whether something has happened.
    """

    client: Client
    installation: str
    image: str
    locations: Sequence[str]
    architectures: Sequence[str]
    user_data: UserData
    lane: Lane
    look_s: float = LOOK_S
    _types: tuple[float, Sequence[ServerType]] | None = None
    _refusals: Refusals = field(default_factory=Refusals)

    async def create(self, node_id: NodeId, *, size: Size, enrolment: Secret) -> Server:
        """See `Compute.create`. Of what is large enough, the cheapest that is to be had is taken.

        Raises:
            CapacityError: There is none now.
        """
        if not HOST_NAME.fullmatch(node_id):
            raise RefusedError(SYSTEM, f"{node_id!r:.60} is not the name of a machine")
        found = await self._call(self._find, node_id)
        if found is not None:
            return found
        wanted = offers(
            size,
            await self._server_types(),
            locations=self.locations,
            architectures=self.architectures,
        )
        for offer in self._refusals.without(wanted, now_s=_now_s()):
            try:
                made = await self._call(self._create, node_id, offer, enrolment)
            except CapacityError:
                self._refusals.note(offer, now_s=_now_s())
            else:
                self._refusals.forget(offer)
                return made
        where = ", ".join(self.locations)
        raise CapacityError(SYSTEM, f"no {size} machine is to be had in {where} now")

    async def destroy(self, ref: str) -> None:
        """See `Compute.destroy`. Returns once Hetzner lists it no more."""
        if not ref.isdigit():
            raise RefusedError(SYSTEM, f"{ref!r:.60} is not the number of a server")
        try:
            async with asyncio.timeout(GONE_S_MAX):
                while True:
                    if not await self._call(self._deleting, int(ref)):
                        return
                    await asyncio.sleep(self.look_s)
        except TimeoutError as error:
            raise UnavailableError(SYSTEM, f"server {ref} is still there") from error

    async def servers(self) -> Sequence[Server]:
        """See `Compute.servers`."""
        return await self._call(self._servers)

    # In the lane

    def _find(self, node_id: NodeId) -> Server | None:
        selector = f"{INSTALLATION}={self.installation},{NODE}={node_id}"
        found = self.client.servers.get_list(label_selector=selector).servers
        return self._ours(found[0]) if found else None

    def _create(self, node_id: NodeId, offer: Offer, enrolment: Secret) -> Server:
        try:
            made = self.client.servers.create(
                name=node_id,
                server_type=ApiServerType(name=offer.server_type),
                location=Location(name=offer.location),
                image=_image(self.image),
                labels={INSTALLATION: self.installation, NODE: node_id},
                user_data=self.user_data(node_id, enrolment),
            )
        except APIException as error:
            if error.code != "uniqueness_error":
                raise
            named = self.client.servers.get_by_name(node_id)
            if named is None:
                raise
            return self._ours(named)
        return self._ours(made.server)

    def _ours(self, server: BoundServer) -> Server:
        """Return a server as ours.

        Raises:
            RefusedError: It is somebody else's.
        """
        labels = server.labels or {}
        if labels.get(INSTALLATION) != self.installation or NODE not in labels:
            raise RefusedError(SYSTEM, f"server {server.id} is not of this installation")
        return Server(
            ref=str(server.id),
            node_id=NodeId(labels[NODE]),
            is_running=server.status == "running",
            labels={INSTALLATION: labels[INSTALLATION], NODE: labels[NODE]},
        )

    def _deleting(self, number: int) -> bool:
        """Ask for a server's end; return whether it is still there."""
        try:
            server = self.client.servers.get_by_id(number)
            self._ours(server)
            if server.status != "deleting":
                server.delete()
        except APIException as error:
            if error.code != "not_found":
                raise
            return False
        return True

    def _servers(self) -> Sequence[Server]:
        """List all of ours; a list that is not whole is none (N7)."""
        found: list[BoundServer] = []
        page: int | None = 1
        while page is not None:
            selector = f"{INSTALLATION}={self.installation}"
            got = self.client.servers.get_list(label_selector=selector, page=page, per_page=PAGE)
            found += got.servers
            pages = got.meta.pagination
            page = pages.next_page if pages else None
            if page is None and len(found) != (pages and pages.total_entries):
                raise UnavailableError(SYSTEM, "its list of servers is not whole")
        return [self._ours(server) for server in found]

    def _list_types(self) -> Sequence[ServerType]:
        return [_server_type(one) for one in self.client.server_types.get_all()]

    async def _server_types(self) -> Sequence[ServerType]:
        if self._types is None or _now_s() - self._types[0] > TYPES_KEPT_S:
            self._types = (_now_s(), await self._call(self._list_types))
        return self._types[1]

    async def _call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self.lane.run(call, *args, **kwargs)
        except AppError:
            raise
        except Exception as error:  # noqa: BLE001  nothing of the SDK's leaves
            translate(error)


def build(
    *,
    token: Secret,
    installation: str,
    image: str,
    locations: Sequence[str],
    architectures: Sequence[str],
    user_data: UserData,
    api_url: str = "https://api.hetzner.cloud/v1",
) -> HetznerCompute:
    """Return the supplier for a project's token."""
    client = Client(
        token=token.reveal(),
        api_endpoint=api_url,
        application_name="samovar",
        timeout=SOCKET_TIMEOUT_S,
    )
    return HetznerCompute(
        client=client,
        installation=installation,
        image=image,
        locations=locations,
        architectures=architectures,
        user_data=user_data,
        lane=Lane("hetzner", workers=WORKERS, timeout_s=CALL_TIMEOUT_S),
    )


def _image(name: str) -> Image:
    return Image(id=int(name)) if name.isdigit() else Image(name=name)


def _server_type(one: ApiServerType) -> ServerType:
    there = [at for at in one.locations or () if at.available and at.deprecation is None]
    prices = {
        price["location"]: Decimal(price["price_hourly"]["net"]) for price in one.prices or ()
    }
    return ServerType(
        name=str(one.name),
        architecture=str(one.architecture),
        cpus=int(one.cores or 0),
        memory_mb=int(float(one.memory or 0) * 1024),
        locations=[str(at.location.name) for at in there],
        euros_hour=prices,
    )


def _now_s() -> float:
    return asyncio.get_running_loop().time()
