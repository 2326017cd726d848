"""A requirement: one outside thing that Samovar cannot bring along, and how it is met."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Protocol

from bot.setup.apt import Apt
from bot.setup.missing import MissingError

THREADS = 4
"""Requirements met at once: downloads, packages and an image wait for different things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One machine, as a requirement sees it.

    Attributes:
        state: Folder for all that we fetch and start.
        may_install: Whether packages may be installed and files fetched.
        progress: Called with a line for people, from any thread.
        environ: Where people name what they have: `SAMOVAR_CLAUDE` and the like.
        found: What was met already, by the requirement's name.
    """

    state: Path
    may_install: bool
    progress: Callable[[str], None]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    found: dict[str, str] = field(default_factory=dict)
    apt: Apt = field(default_factory=Apt)

    @property
    def tools(self) -> Path:
        """Where fetched programs lie, one folder per version."""
        return self.state / "tools"

    def install(self, *packages: str, mend: str) -> None:
        """Install Debian packages.

        Raises:
            MissingError: If we may not, or it failed.
        """
        self.ask_to_install(f"{' '.join(packages)} not installed", mend=mend)
        self.apt.install(packages, mend=mend, progress=self.progress)

    def ask_to_install(self, sentence: str, *, mend: str) -> None:
        """Return if something may be fetched or installed now.

        Raises:
            MissingError: If not, saying `sentence`.
        """
        if not self.may_install:
            raise MissingError(sentence, mend=mend)


class Requirement(Protocol):
    """One outside thing.

    Promises:

    1. `probe` tries the capability and not the name: it runs what it returns. It changes nothing.
    2. `provide` may be interrupted anywhere: what it leaves behind is whole or is not seen.
    3. `provide` asks no questions.
    """

    @property
    def name(self) -> str:
        """The requirement's name: `docker`."""
        ...

    @property
    def needs(self) -> Sequence[str]:
        """Names of what must be met before."""
        ...

    def probe(self, site: Site) -> str:
        """Return the path, address or name of what works here.

        Raises:
            MissingError: If nothing does, with the command that mends it.
        """
        ...

    def provide(self, site: Site) -> None:
        """Install or start what is missing.

        Raises:
            MissingError: If that cannot be done, with the command that mends it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found out about one requirement.

    Attributes:
        detail: What works, or what is missing, as a sentence.
        mend: The command that mends it; empty when nothing is to be mended.
    """

    name: str
    ok: bool
    detail: str
    mend: str = ""


def meet(requirements: Sequence[Requirement], site: Site) -> list[Finding]:
    """Meet all of `requirements`, those that do not need each other at the same time.

    Values go to `site.found`. What needs something that is missing is reported as missing too.
    """
    return _each(requirements, site, _met)


def probe(requirements: Sequence[Requirement], site: Site) -> list[Finding]:
    """Look at all of `requirements` and change nothing."""
    return _each(requirements, site, lambda requirement, at: requirement.probe(at))


def _met(requirement: Requirement, site: Site) -> str:
    try:
        return requirement.probe(site)
    except MissingError:
        requirement.provide(site)
        return requirement.probe(site)


def _each(
    requirements: Sequence[Requirement], site: Site, act: Callable[[Requirement, Site], str]
) -> list[Finding]:
    by_name = {requirement.name: requirement for requirement in requirements}
    order = TopologicalSorter(
        {each.name: [need for need in each.needs if need in by_name] for each in requirements}
    )
    order.prepare()
    findings: dict[str, Finding] = {}
    running: dict[Future[Finding], str] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        while order.is_active():
            for name in order.get_ready():
                running[pool.submit(_find, by_name[name], site, act)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                findings[name] = future.result()
                order.done(name)
    return [findings[each.name] for each in requirements]


def _find(requirement: Requirement, site: Site, act: Callable[[Requirement, Site], str]) -> Finding:
    name = requirement.name
    lacking = [need for need in requirement.needs if need not in site.found]
    if lacking:
        return Finding(name=name, ok=False, detail=f"{name} needs {', '.join(lacking)} first")
    try:
        value = site.found[name] = act(requirement, site)
    except MissingError as missing:
        return Finding(name=name, ok=False, detail=missing.sentence, mend=missing.mend)
    return Finding(name=name, ok=True, detail=value)
