"""A network bridge for an engine of our own, on addresses that nobody here uses."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from itertools import count

from bot.setup.missing import MissingError
from bot.setup.requirement import Site
from bot.setup.shell import CommandError, as_root, run, works

MEND = "sudo apt-get update && sudo apt-get install -y iproute2"
CANDIDATES = (
    *(f"10.{n}.0.0/16" for n in range(201, 255)),
    *(f"172.{n}.0.0/16" for n in range(20, 32)),
)
"""Private networks (RFC 1918) that home routers and Docker itself seldom choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge that is up.

    Attributes:
        name: `samovar0` and so on.
        pool: Addresses for the engine's other networks, beside the bridge's own.
    """

    name: str
    pool: IPv4Network


def provide(owner: str, site: Site) -> Bridge:
    """Return the bridge marked as `owner`'s; make it if it is not there.

    Raises:
        MissingError: If we may not or cannot.
    """
    if not works(["ip", "-V"]):
        site.install("iproute2", mend=MEND)
    links = json.loads(run(["ip", "-j", "link", "show"], limit_s=10))
    for link in links:
        if link.get("ifalias") == owner:
            network = _address(link["ifname"])
            if link["address"] != _mac(network):
                _set_mac(link["ifname"], network)
            return Bridge(name=link["ifname"], pool=_pool(network))
    network = free_network(_used())
    taken = {link["ifname"] for link in links}
    name = next(name for n in count() if (name := f"samovar{n}") not in taken)
    try:
        _make(name, owner=owner, network=network)
    except CommandError as error:
        raise MissingError(f"cannot make a network bridge: {error.tail}", mend=MEND) from error
    return Bridge(name=name, pool=_pool(network))


def remove_if_unused(name: str) -> None:
    """Take the bridge away unless a container hangs on it."""
    try:
        members = json.loads(run(["ip", "-j", "link", "show", "master", name], limit_s=10) or "[]")
        if not members:
            run(as_root("ip", "link", "delete", name, mend=MEND), limit_s=10)
    except CommandError:
        return  # It is gone already.


def free_network(used: Iterable[IPv4Network]) -> IPv4Network:
    """Return a /16 that overlaps none of `used`.

    Raises:
        MissingError: If all our candidates are in use.
    """
    taken = list(used)
    for candidate in map(IPv4Network, CANDIDATES):
        if not any(candidate.overlaps(each) for each in taken):
            return candidate
    raise MissingError(
        "no private network is free for containers", mend="set DOCKER_HOST to a Docker Engine"
    )


def _pool(network: IPv4Network) -> IPv4Network:
    """Return the upper half of the bridge's /16; its own addresses lie in the lower."""
    return list(network.supernet(new_prefix=16).subnets(new_prefix=17))[1]


def _mac(network: IPv4Network) -> str:
    """Return the bridge's own hardware address, of the form that Docker gives its networks."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *network[1].packed))


def _set_mac(name: str, network: IPv4Network) -> None:
    """Fix the address of a bridge that has none of its own.

    Such a bridge takes the lowest of its ports, so it changes as containers come and go, and the
    others send to the old one until their neighbour entry is given up: half a minute and more
    without a byte (Linux, `br_stp_recalculate_bridge_id`).
    """
    words = ("link", "set", name, "address", _mac(network))
    try:
        run(as_root("ip", *words, mend=MEND), limit_s=10)
    except CommandError as error:
        raise MissingError(f"cannot set up the bridge {name}: {error.tail}", mend=MEND) from error


def _make(name: str, *, owner: str, network: IPv4Network) -> None:
    address = f"{network[1]}/24"
    for words in (
        ("link", "add", name, "address", _mac(network), "type", "bridge"),
        ("addr", "add", address, "dev", name),
        ("link", "set", name, "up"),
        ("link", "set", name, "alias", owner),
    ):
        run(as_root("ip", *words, mend=MEND), limit_s=10)


def _used() -> list[IPv4Network]:
    routes = json.loads(run(["ip", "-4", "-j", "route", "show", "table", "all"], limit_s=10))
    networks = []
    for route in routes:
        if route["dst"] != "default":
            network = ip_network(route["dst"], strict=False)
            networks.append(network)
    return [each for each in networks if isinstance(each, IPv4Network)]


def _address(name: str) -> IPv4Network:
    (link,) = json.loads(run(["ip", "-4", "-j", "addr", "show", "dev", name], limit_s=10))
    entry = link["addr_info"][0]
    return IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
