"""Docker: an engine that runs containers which see this machine's files."""

import io
import os
import pwd
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

from bot.setup.dockerd import Dockerd
from bot.setup.missing import MissingError
from bot.setup.requirement import Site
from bot.setup.shell import CommandError, as_root, root_prefix, run, works

SYSTEM_SOCKET = Path("/var/run/docker.sock")
COMES_BACK_S = 20
PROBE_IMAGE = "samovar-probe:1"
"""An empty image: the probe brings its program along as a mount."""
MEND = "sudo apt-get update && sudo apt-get install -y docker.io"
WISHED = ("docker.io", "docker-cli", "docker-buildx", "docker-compose-v2", "apparmor", "iptables")
"""What releases of Debian and Ubuntu call the parts; each has only some of them.

`docker.io` only recommends `apparmor`, and on a kernel that has AppArmor no container starts
without its parser.
"""


class Docker:
    """The engine of `DOCKER_HOST`, else this machine's, else one that we start ourselves.

    An engine that people named is never replaced: containers that run there would be lost.
    """

    name = "docker"
    needs = ()

    def __init__(self, system_socket: Path = SYSTEM_SOCKET) -> None:
        self._system_socket = system_socket

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`: runs a container."""
        if not shutil.which("docker"):
            raise MissingError("the docker command is not installed", mend=MEND)
        why = "no Docker Engine answers"
        for host in self._hosts(site):
            try:
                _run_container(host, site)
            except CommandError as error:
                if _answers(host):
                    why = f"the Docker Engine at {host} runs no container: {error.tail}"
            else:
                return host
        raise MissingError(why, mend=MEND)

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        if not (shutil.which("docker") and shutil.which("dockerd")):
            site.ask_to_install("Docker Engine is not installed", mend=MEND)
            site.apt.refresh(mend=MEND, progress=site.progress)
            packages = [each for each in WISHED if site.apt.candidate(each)]
            site.install(*packages, mend=MEND)
        if named := site.environ.get("DOCKER_HOST"):
            _wait_for(named)
        elif not self._open_system_socket():
            Dockerd(site.state / "docker").start(site)

    def _hosts(self, site: Site) -> list[str]:
        if named := site.environ.get("DOCKER_HOST"):
            return [named]
        return [f"unix://{self._system_socket}", Dockerd(site.state / "docker").host]

    def _open_system_socket(self) -> bool:
        """Return whether the system's own engine runs; let us in if only root may use it.

        A second engine beside a running one would flush its firewall chains, so that one is used.
        """
        prefix = root_prefix()
        command = ("docker", "-H", f"unix://{self._system_socket}", "version")
        if prefix is None or not works([*prefix, *command]):
            return False
        if os.access(self._system_socket, os.W_OK):
            return True
        person = pwd.getpwuid(os.geteuid()).pw_name
        mend = f"sudo usermod -aG docker {person}, then log in anew"
        run(as_root("chown", person, str(self._system_socket.resolve()), mend=mend), limit_s=10)
        return True


def _wait_for(host: str) -> None:
    """Return once an engine answers that may be starting again.

    Raises:
        MissingError: If it does not in time.
    """
    deadline = time.monotonic() + COMES_BACK_S
    while not _answers(host):
        if time.monotonic() > deadline:
            sentence = f"the Docker Engine of DOCKER_HOST, {host}, does not answer"
            raise MissingError(sentence, mend="start it, or unset DOCKER_HOST to have one started")
        time.sleep(0.2)


def _answers(host: str) -> bool:
    return works(["docker", "-H", host, "version"])


def _run_container(host: str, site: Site) -> None:
    """Run `/usr/bin/test` of this machine in a container that must see a folder of ours.

    Raises:
        CommandError: If the engine does not answer or the container does not run so.
    """
    docker = ["docker", "-H", host]
    if not works([*docker, "image", "inspect", PROBE_IMAGE]):
        _import_empty_image(docker)
    site.state.mkdir(parents=True, exist_ok=True)
    mounts = {str(path): str(path) for path in map(Path, ("/usr", "/lib", "/lib64"))}
    mounts[str(site.state.resolve())] = "/state"
    options = [
        f"--mount=type=bind,src={source},dst={target},ro"
        for source, target in mounts.items()
        if Path(source).exists()
    ]
    with tempfile.NamedTemporaryFile(dir=site.state, prefix=".probe-") as marker:
        seen = f"/state/{Path(marker.name).name}"
        command = [*docker, "run", "--rm", *options, PROBE_IMAGE, "/usr/bin/test", "-e", seen]
        run(command, limit_s=60)


def _import_empty_image(docker: list[str]) -> None:
    with tempfile.TemporaryFile() as file:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("samovar-probe"))
        file.write(content.getvalue())
        file.seek(0)
        run([*docker, "import", "-", PROBE_IMAGE], limit_s=60, stdin=file)
