"""The demonstration: the whole main job on this machine, once by itself, then for whoever tries."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.docker import Engine
from bot import setup
from bot.config import Config, GithubConfig, ModelConfig, ProjectConfig, ServerConfig
from bot.demo import sample
from bot.demo.forge.server import StandInForge
from bot.demo.model import ScriptedModel
from bot.logs import set_up_logs
from bot.replies import card_text, seconds
from bot.service import Running, running
from bot.state import state_dir
from core.card import Card
from core.ids import ProjectId, TaskId
from core.ports.commands import TaskView, Words

FOLDER = "demo"
"""Below the state folder: the demonstration keeps its records apart."""
REPOSITORY = "samovar-demo/inflection"
PROJECT = ProjectId("inflection")
KEY = "ANTHROPIC_API_KEY"
APP_ID = "1"
TICK_S = 0.25
ASK_S_MAX = 60
CLEAR_UP_S_MAX = 30
PORT_MAX = 65535


def demo(*, once: bool, as_json: bool, port: int, install: bool) -> int:
    """Set up what is missing, start everything, run the main job; return the exit status."""
    set_up_logs(is_quiet=True)
    with setup.in_use(state_dir()):
        names = (*setup.RUN, *setup.PAGES)
        outfit = setup.ensure(names, state=state_dir(), install=install, progress=_progress)
        sources = sample.fetch(sample.INFLECTION, state_dir() / "samples")
        try:
            return uvloop.run(_demo(outfit, sources, once=once, as_json=as_json, port=port))
        except KeyboardInterrupt:
            return 0


def _progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


async def _demo(
    outfit: setup.Outfit, sources: Path, *, once: bool, as_json: bool, port: int
) -> int:
    async with _world(outfit, sources, port=port) as (config, samovar, model):
        if model == "anthropic":
            _progress(f"Model: {config.model.name} at Anthropic, with your {KEY}.")
        else:
            _progress(f"Model: scripted, because {KEY} is not set. It replays one real fix.")
        task_id = await _asked(samovar, _words(f"demo-{time.time_ns()}", sample.TASK))
        view = await _follow(samovar, task_id)
        page_url = f"{config.public_url}/tasks/{task_id}"
        summary = await _summary(samovar, view, page_url, model)
        if as_json:
            sys.stdout.write(json.dumps(summary) + "\n")
        else:
            await _say_links(samovar, view, summary, config.public_url)
        sys.stdout.flush()
        if not once:
            _progress("Everything stays up: ask for more on the page. Ctrl-C ends it.")
            await samovar.ended()
        await _clear_up(samovar)
        pull = summary["pull_request"]
        return 0 if isinstance(pull, dict) and pull["commits"] else 1


def _words(key: str, text: str) -> Words:
    return Words(key=key, surface="web", channel=PROJECT, message=key, text=text, project=PROJECT)


@asynccontextmanager
async def _world(
    outfit: setup.Outfit, sources: Path, *, port: int
) -> AsyncGenerator[tuple[Config, Running, str]]:
    """Start the stand-ins that are needed, and Samovar itself."""
    folder = state_dir() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    private, public = _app_key()
    key_file = folder / "app.pem"
    key_file.touch(mode=0o600)
    key_file.write_text(private)
    async with AsyncExitStack() as stack:
        bridge = await _bridge(outfit)
        forge = await stack.enter_async_context(
            StandInForge(
                folder / "forge",
                app_id=APP_ID,
                app_public_key=public,
                host=bridge,
                port=_beside(bridge, port),
            )
        )
        await forge.create_repository(
            REPOSITORY, from_tree=sources, files=sample.devcontainer(outfit.base_image)
        )
        model_config, model = ModelConfig(), "anthropic"
        if not os.environ.get(KEY):
            scripted = await stack.enter_async_context(ScriptedModel(recipes=[sample.RECIPE]))
            model_config, model = replace(model_config, api_url=scripted.url), "scripted"
            os.environ[KEY] = "scripted"
            stack.callback(os.environ.pop, KEY, None)
        config = Config(
            state=folder,
            server=ServerConfig(port=port),
            github=GithubConfig(
                api_url=forge.api_url,
                git_url=forge.url,
                app_id=APP_ID,
                private_key_file=str(key_file),
            ),
            model=model_config,
            projects=(
                ProjectConfig(
                    id=PROJECT,
                    repository=REPOSITORY,
                    checks=(sample.CHECK,),
                    budget_usd=Decimal(3),
                ),
            ),
        )
        samovar = await stack.enter_async_context(running(config, outfit))
        yield config, samovar, model


def _app_key() -> tuple[str, str]:
    """Return the PEMs of a new key pair for the App at the stand-in code host."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


async def _bridge(outfit: setup.Outfit) -> str:
    """Return the address by which containers reach this machine."""
    engine = Engine(outfit.docker_host)
    try:
        return await engine.bridge()
    finally:
        await engine.close()


async def _asked(samovar: Running, words: Words) -> TaskId:
    """Return the task that the words became. Delivered again they are heard once."""
    async with asyncio.timeout(ASK_S_MAX):
        while True:
            heard = await samovar.commands.say(samovar.local, words)
            if heard.task_id is not None:
                return heard.task_id


def _beside(host: str, port: int) -> int:
    """Return the port after `port`, so that links to pull requests outlive a restart.

    0, which is any, if it is taken or there is none.
    """
    wanted = port + 1 if 0 < port < PORT_MAX else 0
    try:
        with socket.create_server((host, wanted)):
            return wanted
    except OSError:
        return 0


async def _follow(samovar: Running, task_id: TaskId) -> TaskView:
    """Show progress until the task is over."""
    shown: dict[str, str] = {}
    while True:
        view = await samovar.commands.task(samovar.local, task_id)
        for line in _news(view.card, shown):
            _progress(line)
        if view.card.result is not None:
            return view
        await asyncio.sleep(TICK_S)


async def _clear_up(samovar: Running) -> None:
    """Remove the workspaces and let the local node go: nothing stays on the machine."""
    _progress("Clearing up.")
    for node in await samovar.commands.nodes(samovar.local):
        await samovar.commands.delete_node(samovar.local, node.id)
    try:
        async with asyncio.timeout(CLEAR_UP_S_MAX):
            while await samovar.commands.nodes(samovar.local):  # noqa: ASYNC110  a look is all
                await asyncio.sleep(TICK_S)
    except TimeoutError:
        _progress("The node did not let go in time; `./samovar demo` finds it again.")


def _news(card: Card, shown: dict[str, str]) -> list[str]:
    """Return a line for each step that says something else than before."""
    lines = []
    for step in card.steps:
        seen = step.text or step.mark
        if step.took_s is not None and shown.get(step.name) != seen:
            shown[step.name] = seen
            lines.append(f"  {step.name}: {seen} ({seconds(step.took_s)})")
    return lines


async def _summary(
    samovar: Running, view: TaskView, page_url: str, model: str
) -> dict[str, object]:
    card, result = view.card, view.card.result
    pull: dict[str, object] | None = None
    if card.pull_url:
        known = await samovar.pull(view.card.task_id)
        pull = {
            "url": known.url,
            "number": known.number,
            "head": known.head,
            "base": known.base,
            "commits": known.commits,
        }
    return {
        "task": card.task_id,
        "run": card.run_id,
        "outcome": "" if result is None else result.outcome,
        "pull_request": pull,
        "workspace": card.workspace_id,
        "page_url": page_url,
        "model": model,
        "steps": [
            {"name": step.name, "state": step.mark, "took_s": round(step.took_s or 0.0, 3)}
            for step in card.steps
        ],
        "cost": {"tokens_usd": float(card.tokens_usd), "machine_usd": float(card.machine_usd)},
    }


async def _say_links(
    samovar: Running, view: TaskView, summary: dict[str, object], public_url: str
) -> None:
    sign_in = await samovar.commands.sign_in_link(samovar.local)
    lines = [
        "",
        card_text(view.card),
        "",
        f"Pull request  {view.card.pull_url or 'none'}",
        f"Chat page     {public_url}{sign_in}",
        f"This task     {summary['page_url']}",
        f"Workspace     {public_url}/workspaces/{view.card.workspace_id}",
        f"Command line  ./samovar --state {state_dir() / FOLDER} task list",
        f"Terminal      ./samovar --state {state_dir() / FOLDER} attach {view.card.task_id}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
