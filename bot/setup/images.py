"""The default image: what a repository without a devcontainer of its own works in."""

import platform
import shutil
from pathlib import Path

from bot.setup.missing import MissingError
from bot.setup.place import spare
from bot.setup.program import mend_by_apt
from bot.setup.requirement import Site
from bot.setup.shell import CommandError, as_root, run, works

PULLED = "mcr.microsoft.com/devcontainers/base:bookworm"
PULL_S = 120
"""An engine that reaches no registry says so in 15 s; a slow line takes longer than to build."""
BUILD_S = 1200
PACKAGES = (
    *("ca-certificates", "curl", "git", "less", "locales", "procps", "sudo"),
    *("g++", "gcc", "libc6-dev", "make", "pkg-config"),
    *("nodejs", "npm"),
    *("python3", "python3-pip", "python3-pytest", "python3-setuptools", "python3-venv"),
    "python3-wheel",
)
PERSON = "dev"
CHANGES = (
    'CMD ["sleep", "infinity"]',
    "ENV LANG=C.UTF-8",
    # The devcontainer CLI reads this label as JSON: inner quotes survive only within outer ones.
    f"""LABEL devcontainer.metadata='[{{"remoteUser":"{PERSON}"}}]'""",
)
HOOKS = (
    f'chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash {PERSON}',
    f'echo "{PERSON} ALL=(ALL) NOPASSWD:ALL" > "$1/etc/sudoers.d/{PERSON}"',
    f'chmod 0440 "$1/etc/sudoers.d/{PERSON}"',
)
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")


class BaseImage:
    """The configured image, else the well-known one, else one built from this distribution."""

    name = "base-image"
    needs = ("docker",)

    def probe(self, site: Site) -> str:
        """See `Requirement.probe`."""
        docker = ["docker", "-H", site.found["docker"]]
        for image in self._names(site):
            if works([*docker, "image", "inspect", image]):
                return image
        names = " or ".join(self._names(site))
        raise MissingError(f"no image {names}", mend=f"docker pull {self._names(site)[0]}")

    def provide(self, site: Site) -> None:
        """See `Requirement.provide`."""
        docker = ["docker", "-H", site.found["docker"]]
        image, *others = self._names(site)
        site.ask_to_install(f"no image {image}", mend=f"docker pull {image}")
        label = f"pulling {image}"
        try:
            pull = [*docker, "pull", "-q", image]
            run(pull, limit_s=PULL_S, label=label, progress=site.progress)
        except CommandError as error:
            if not others:
                raise MissingError(f"{image} cannot be pulled: {error.tail}", mend="") from error
            _build(others[0], docker=docker, site=site)

    def _names(self, site: Site) -> list[str]:
        named = site.environ.get("SAMOVAR_BASE_IMAGE")
        return [named] if named else [PULLED, f"samovar-base:{_release()['VERSION_CODENAME']}"]


def _release() -> dict[str, str]:
    return {"ID": "", "VERSION_CODENAME": "unknown"} | platform.freedesktop_os_release()


def _build(image: str, *, docker: list[str], site: Site) -> None:
    """Build `image` from the packages of this distribution.

    The archive is imported when it is whole, and the engine names an image when it has all of it.
    """
    mend = mend_by_apt("mmdebstrap")
    if not shutil.which("mmdebstrap"):
        site.install("mmdebstrap", mend=mend)
    with spare(site.state / "image") as folder:
        archive = folder / "root.tar"
        try:
            label = f"building {image} from packages"
            command = as_root(*_mmdebstrap(archive), mend=mend)
            run(command, limit_s=BUILD_S, label=label, progress=site.progress)
            changes = [f"--change={change}" for change in CHANGES]
            command = [*docker, "import", *changes, str(archive), image]
            run(command, limit_s=BUILD_S, label=f"importing {image}", progress=site.progress)
        except CommandError as error:
            raise MissingError(f"{image} cannot be built: {error.tail}", mend=mend) from error


def _mmdebstrap(archive: Path) -> list[str]:
    release = _release()
    components = "main,universe" if release["ID"] == "ubuntu" else "main"
    return [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--components={components}"),
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
        *(f"--customize-hook={hook}" for hook in HOOKS),
        *(release["VERSION_CODENAME"], str(archive)),
    ]
