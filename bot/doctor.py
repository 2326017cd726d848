"""What is missing here, and the command that mends each."""

import asyncio
import os
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import urlsplit

from bot import setup
from bot.client import Client, ServerError
from bot.config import FILE, Config, load
from bot.setup import Finding
from bot.state import state_dir
from bot.wiring import code_host
from core.errors import AppError

ROOMS = ("adapters", "agent", "bot", "core")


def examine(config_path: Path | None) -> Sequence[Finding]:
    """Return one finding per thing that Samovar needs here; changes nothing."""
    file = config_path or state_dir() / FILE
    config, finding = _configuration(config_path, file)
    findings = [finding, _rooms()]
    findings += setup.examine((*setup.RUN, *setup.PAGES), state=state_dir())
    if config is not None:
        findings += [_projects(config, file), _model_key(config)]
        findings += [_code_host(config), _address(config), _domain(config)]
        findings += _sweeps(config)
    return findings


def _configuration(path: Path | None, file: Path) -> tuple[Config | None, Finding]:
    name = "configuration"
    try:
        config = load(path)
    except AppError as error:
        mend = "compare it with config.example.toml"
        return None, Finding(name=name, ok=False, detail=str(error), mend=mend)
    detail = str(file) if file.exists() else f"the defaults, as there is no {file}"
    return config, Finding(name=name, ok=True, detail=detail, mend="")


def _rooms() -> Finding:
    """Look whether another distribution has put a package of our names over ours."""
    owners = packages_distributions()
    strangers = {room: owners[room] for room in ROOMS if set(owners.get(room, ())) > {"samovar"}}
    return Finding(
        name="packages",
        ok=not strangers,
        detail="ours alone" if not strangers else f"also shipped by others: {strangers}",
        mend="" if not strangers else "install Samovar into an environment of its own",
    )


def _projects(config: Config, file: Path) -> Finding:
    names = ", ".join(project.id for project in config.projects)
    mend = "" if names else f"add a [[projects]] table to {file}"
    return Finding(name="projects", ok=bool(names), detail=names or "none", mend=mend)


def _model_key(config: Config) -> Finding:
    variable = config.model.key_variable
    is_set = bool(os.environ.get(variable))
    detail = f"{variable} is set" if is_set else f"{variable} is not set"
    return Finding(
        name="model key", ok=is_set, detail=detail, mend="" if is_set else f"export {variable}=…"
    )


def _code_host(config: Config) -> Finding:
    name = "code host"

    async def app() -> str:
        forge = code_host(config)
        try:
            return await forge.check()
        finally:
            forge.close()

    try:
        slug = asyncio.run(app())
    except AppError as error:
        mend = "see docs/reference/code-host.md"
        return Finding(name=name, ok=False, detail=str(error), mend=mend)
    return Finding(name=name, ok=True, detail=f"App {slug}", mend="")


def _sweeps(config: Config) -> Sequence[Finding]:
    """Ask a Samovar that runs here whether its periodic jobs are done."""

    async def silent() -> Sequence[str]:
        async with Client(config.state / "api.sock") as client:
            return list((await client.get("health"))["silent_sweeps"])

    try:
        names = ", ".join(asyncio.run(silent()))
    except ServerError:
        return []
    detail = f"silent: {names}" if names else "all are done"
    mend = "read what its log says of them (`work.failed`), then start it again" if names else ""
    return [Finding(name="periodic jobs", ok=not names, detail=detail, mend=mend)]


def _address(config: Config) -> Finding:
    """Say whether machines elsewhere could join."""
    url = config.public_url
    is_https = url.startswith("https://")
    detail = url if is_https else f"{url}: this computer only; machines elsewhere need https"
    return Finding(name="address", ok=True, detail=detail, mend="")


def _domain(config: Config) -> Finding:
    """Say where terminals are, and whether their names are kept apart from the pages'."""
    name = "workspace addresses"
    if not config.domain:
        mend = f"set [server] domain to a name: {config.public_url} has none"
        return Finding(name=name, ok=False, detail="none, so no terminals", mend=mend)
    detail = f"ws-….{config.domain}"
    if config.domain == urlsplit(config.public_url).hostname and config.domain != "localhost":
        detail += ", below the pages' own name: a domain of their own keeps them further apart"
    return Finding(name=name, ok=True, detail=detail, mend="")
