"""What the node asks of Docker, by its API. Only `NodeError` leaves these methods."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from agent.errors import NodeError

CALL_S_MAX = 120
SIOCGIFADDR = 0x8915
OUTPUT_BYTES_MAX = 16 * 1024 * 1024
NO_CONNECTION = 900
"""What aiodocker says in place of an HTTP status when Docker takes no connection."""
NOTHING = {"filters": json.dumps({"type": ["node"]})}
"""Events of a kind that only a swarm has."""
NOBODY_TYPES = "ctrl-@,ctrl-_,ctrl-@,ctrl-^,ctrl-@,ctrl-_,ctrl-^,ctrl-_"
"""Docker lets go of a PTY when it reads some keys, Ctrl-P Ctrl-Q unless told others; none is not
possible. It keeps the first one back until the next, so that is one that is seldom typed."""
Labels = Mapping[str, str]
Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """How a command in a container ended."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last line break."""
        return self.out.decode(errors="replace").rstrip("\n")

    @property
    def complaint(self) -> str:
        """The end of standard error as text, for people."""
        return self.err.decode(errors="replace").strip()[-2000:]


class CommandOverdue(Exception):  # noqa: N818  a fact about time, named as such
    """The command in the container took too long. It was killed."""


class Engine:
    """One Docker Engine. The connection opens with the first call."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._client: aiodocker.Docker | None = None

    @property
    def client(self) -> aiodocker.Docker:
        """The connection itself."""
        if self._client is None:
            self._client = aiodocker.Docker(url=self._host)
        return self._client

    async def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    @asynccontextmanager
    async def steady(self) -> AsyncGenerator[None]:
        """Notice whether Docker ends while the body runs: then nothing that it saw counts.

        Raises:
            NodeError: `docker_unreachable` in place of whatever came of the body.
        """
        with _translated():
            life = await self.client._do_query(  # noqa: SLF001  a stream that ends with Docker
                "events", "GET", params=NOTHING, timeout=None
            )
        try:
            yield
        except Exception as error:
            if await self._has_ended(life):
                raise _unreachable() from error
            raise
        else:
            if await self._has_ended(life):
                raise _unreachable()
        finally:
            life.close()

    async def _has_ended(self, life: aiohttp.ClientResponse) -> bool:
        """Ask Docker something first: an end that came before the answer has arrived by then."""
        with suppress(DockerError, aiohttp.ClientError, ConnectionError):
            await self.client.version()
        return life.content.is_eof() or life.content.exception() is not None

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """Return what Docker knows of a container, None if there is no such."""
        with _translated():
            try:
                return await self.client.containers.container(container).show()
            except DockerError as error:
                if error.status == 404:
                    return None
                raise

    async def find(self, labels: Labels) -> Sequence[str]:
        """Return the ids of all containers with these labels, running or not."""
        wanted = {"label": [f"{name}={value}" if value else name for name, value in labels.items()]}
        with _translated():
            found = await self.client.containers.list(all=True, filters=wanted)
        return [container.id for container in found]

    async def belonging(self, workspace: str) -> Sequence[str]:
        """Return the containers of a workspace: its own, and those that Compose made for it."""
        own = await self.find({"samovar.workspace": workspace})
        others = await self.find({"com.docker.compose.project": f"samovar-{workspace}"})
        return [*own, *(one for one in others if one not in own)]

    async def limit(self, container: str, *, cpus: float, memory_mb: int, pids: int) -> None:
        """Set the limits of a running container."""
        limits = {
            "NanoCpus": int(cpus * 1e9),
            "Memory": memory_mb << 20,
            "MemorySwap": memory_mb << 20,
            "PidsLimit": pids,
        }
        with _translated():
            await self.client._query_json(  # noqa: SLF001  aiodocker has no call for it
                f"containers/{container}/update", method="POST", data=limits
            )

    async def start(self, container: str) -> None:
        """Start a container; running already is fine."""
        with _translated():
            await self.client.containers.container(container).start()

    async def stop(self, container: str, *, grace_s: int = 10) -> None:
        """Stop a container; stopped or gone already is fine."""
        with _translated(), _gone_is_fine():
            await self.client.containers.container(container).stop(t=grace_s)

    async def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; gone already is fine."""
        with _translated(), _gone_is_fine():
            await self.client.containers.container(container).delete(force=True, v=True)

    async def image(self, name: str) -> dict[str, Any] | None:
        """Return what Docker knows of an image, None if it is not here."""
        with _translated():
            try:
                return await self.client.images.inspect(name)
            except DockerError as error:
                if error.status == 404:
                    return None
                raise

    async def tag(self, image: str, repository: str) -> None:
        """Give an image one more name, so that it is kept."""
        with _translated():
            await self.client.images.tag(image, repository, tag="latest")

    async def images(self, pattern: str) -> Sequence[str]:
        """Return the names with tag of the images that fit a pattern such as `samovar-good/*`."""
        with _translated():
            found = await self.client.images.list(filters={"reference": [pattern]})
        names = [name for image in found for name in image.get("RepoTags") or ()]
        return [name for name in names if fnmatchcase(name.rpartition(":")[0], pattern)]

    async def untag(self, image: str) -> None:
        """Take a name from an image, which goes with its last one; gone or in use is fine."""
        with _translated(), _gone_is_fine():
            await self.client.images.delete(image)

    async def remove_networks(self, workspace: str) -> None:
        """Remove the networks of a workspace that has no containers any more."""
        prefix = f"samovar-{workspace}"
        with _translated():
            for network in await self.client.networks.list(filters={"name": [prefix]}):
                if network["Name"].startswith(f"{prefix}_"):
                    with _gone_is_fine():
                        await (await self.client.networks.get(network["Id"])).delete()

    async def volumes(self, workspace: str) -> Mapping[str, str]:
        """Return a workspace's own volumes: what its repository calls them by Docker's names."""
        prefix = f"samovar-{workspace}"
        with _translated():
            listed = await self.client.volumes.list(  # type: ignore[no-untyped-call]
                filters={"name": [prefix]}
            )
        names = (str(volume["Name"]) for volume in listed["Volumes"] or ())
        own = (name for name in names if name.startswith((f"{prefix}-", f"{prefix}_")))
        return {name: name[len(prefix) + 1 :] for name in own}

    async def remove_volumes(self, workspace: str) -> None:
        """Remove the volumes of a workspace that has no containers any more."""
        for name in await self.volumes(workspace):
            with _translated(), _gone_is_fine():
                await _delete_volume(self.client, name)

    async def bridge(self) -> str:
        """Return the address by which containers reach this host."""
        with _translated():
            network = await (await self.client.networks.get("bridge")).show()
        # Docker 20.10 leaves the gateway out until the network was used once; the kernel knows it.
        name = (network.get("Options") or {}).get("com.docker.network.bridge.name", "docker0")
        pools = network.get("IPAM", {}).get("Config") or ()
        gateways = [str(p["Gateway"]) for p in pools if "." in p.get("Gateway", "")]
        found = _address(name) or next(iter(gateways), "")
        if not found:
            raise NodeError(
                "docker_failed", "Docker has no bridge network; start it with its default bridge."
            )
        return found

    async def create(self, config: Mapping[str, Any]) -> str:
        """Create and start a container, return its id."""
        with _translated():
            container = await self.client.containers.create(dict(config))
            await container.start()
            return container.id

    async def run(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str,
        folder: str = "",
        environment: Mapping[str, str] | None = None,
        time_limit_s: float = CALL_S_MAX,
        sink: Sink | None = None,
    ) -> Executed:
        """Run a command in a running container to its end.

        A `sink` gets standard output piece by piece; then `Executed.out` is empty.

        Raises:
            CommandOverdue: After `time_limit_s`. The command's process group was killed.
        """
        with _translated():
            execution = await self.client.containers.container(container).exec(
                list(argv),
                user=user,
                workdir=folder or None,
                environment=dict(environment or {}),
            )
            try:
                async with asyncio.timeout(time_limit_s):
                    out, err = await _read(execution, sink)
                    code = (await execution.inspect())["ExitCode"]
            except TimeoutError as error:
                await _kill(execution)
                raise CommandOverdue(f"no end after {time_limit_s:.0f} s") from error
        return Executed(code=-1 if code is None else int(code), out=out, err=err)

    async def attach(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str,
        environment: Mapping[str, str],
    ) -> tuple[Exec, Stream]:
        """Start a command in a PTY; whoever closes the stream lets go of it and it goes on."""
        with _translated():
            execution = await self.client.containers.container(container).exec(
                list(argv),
                user=user,
                environment=dict(environment),
                stdin=True,
                tty=True,
                detach_keys=NOBODY_TYPES,
            )
            stream = execution.start(detach=False)
            return execution, await stream.__aenter__()


def _address(interface: str) -> str:
    """Return the IPv4 address of an interface of this host (netdevice(7)), empty without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, suppress(OSError):
        question = struct.pack("256s", interface.encode()[:15])
        return socket.inet_ntoa(fcntl.ioctl(asking.fileno(), SIOCGIFADDR, question)[20:24])
    return ""


async def _read(execution: Exec, sink: Sink | None) -> tuple[bytes, bytes]:
    out, err = bytearray(), bytearray()
    async with execution.start(detach=False) as stream:
        while (message := await stream.read_out()) is not None:
            if message.stream == 1 and sink:
                sink(message.data)
            else:
                to = out if message.stream == 1 else err
                to += message.data
                del to[: max(0, len(to) - OUTPUT_BYTES_MAX)]
    return bytes(out), bytes(err)


async def _delete_volume(client: aiodocker.Docker, name: str) -> None:
    volume = aiodocker.volumes.DockerVolume(client, name)  # type: ignore[no-untyped-call]
    await volume.delete()  # type: ignore[no-untyped-call]


async def _kill(execution: Exec) -> None:
    """Kill an exec's process group, which runc made a session of its own."""
    state = await execution.inspect()
    pid, container = int(state.get("Pid") or 0), str(state.get("ContainerID"))
    with suppress(OSError):
        if state.get("Running") and container in _cgroups(pid):
            os.killpg(pid, signal.SIGKILL)


def _cgroups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except DockerError as error:
        if error.status not in {304, 404, 409}:
            raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DockerError as error:
        text = str(error.message)[:300]
        if error.status == NO_CONNECTION:
            raise _unreachable() from error
        code = "workspace_gone" if error.status == 404 else "docker_failed"
        raise NodeError(code, f"Docker refused: {text}") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise _unreachable() from error


def _unreachable() -> NodeError:
    return NodeError("docker_unreachable", "Docker does not answer on this node; start it.")
