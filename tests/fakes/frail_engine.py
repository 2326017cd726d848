"""A Docker Engine that may be killed: nobody else's containers hang on it."""

import asyncio
import fcntl
import itertools
import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bot.setup.dockerd import Dockerd
from bot.setup.requirement import Site
from bot.state import state_dir
from tests.fakes.node_world import base_image, node_settings


class FrailEngine(Dockerd):
    """An engine beside the one that all other tests use.

    It leaves the firewall alone: two engines would flush each other's chains, and our containers
    only talk to this machine.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._site = Site(state=folder, may_install=False, progress=lambda _: None)
        self._lives: list[subprocess.Popen[bytes]] = []

    def _write_config(self, site: Site) -> None:
        super()._write_config(site)
        settings = json.loads(self._config.read_text())
        self._config.write_text(json.dumps({**settings, "iptables": False}))

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        self._lives.append(super()._spawn(command))
        return self._lives[-1]

    def begin(self) -> None:
        """Start it; again is fine."""
        self.start(self._site)

    async def kill(self) -> None:
        """End it without a goodbye, and start it again as a service manager would."""
        self._lives[-1].kill()
        await asyncio.to_thread(self._lives[-1].wait)
        await asyncio.to_thread(self.begin)

    def end(self) -> None:
        """Stop it."""
        self.stop()
        for life in self._lives:
            life.wait(timeout=30)


@contextmanager
def frail_engine(nowhere: Path) -> Generator[FrailEngine]:
    """Start an engine that has the base image, and no containers at the end.

    Its images stay in the state folder like all that was set up: copying them takes half a minute.
    """
    other = node_settings(nowhere).docker_host
    with _free_folder(state_dir() / "frail") as folder:
        engine = FrailEngine(folder)
        try:
            engine.begin()
            _remove_containers(engine)
            if not _has(engine.host, base_image()):
                copy = f"docker -H {other} save {base_image()} | docker -H {engine.host} load -q"
                subprocess.run(["sh", "-c", copy], check=True, capture_output=True, timeout=180)
            yield engine
            _remove_containers(engine)
        finally:
            engine.end()


@contextmanager
def _free_folder(folder: Path) -> Generator[Path]:
    """Return the first of our folders that no other test has, for as long as the body runs."""
    for number in itertools.count(1):
        one = folder / str(number)
        one.mkdir(parents=True, exist_ok=True)
        with (one / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield one
            return


def _has(host: str, image: str) -> bool:
    seen = subprocess.run(
        ["docker", "-H", host, "image", "inspect", image], check=False, capture_output=True
    )
    return seen.returncode == 0


def _remove_containers(engine: FrailEngine) -> None:
    docker = f"docker -H {engine.host}"
    script = f"{docker} ps -aq | xargs -r {docker} rm -f"
    subprocess.run(["sh", "-c", script], check=True, capture_output=True, timeout=60)
