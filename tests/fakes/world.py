"""The whole program with real Docker, git and Claude Code; the code host and the model stand in."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog
from aiodocker.exceptions import DockerError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from adapters.local import process
from agent import files, overlay
from agent.docker import Engine
from agent.override import OWNER_LABEL
from bot.config import Config, GithubConfig, LocalConfig, ModelConfig, ServerConfig
from bot.demo.forge.records import PullRecord
from bot.demo.forge.server import StandInForge
from bot.demo.model import ScriptedModel
from bot.demo.sample import devcontainer
from bot.demo.script import Step, prompt, say, step, use
from bot.service import Running, running
from bot.setup import Outfit
from core.card import Question, Result
from core.clocks import Clocks
from core.ids import ProjectId, TaskId
from core.limits import Limits
from core.ports.commands import Heard, TaskView, Words
from core.ports.store import Insert
from core.project import Project
from core.workspace import Workspace
from tests.fakes.node_world import base_image, node_settings
from tests.fakes.serving import free_port, until

APP_ID = "1"
TASK_S_MAX = 120.0
LOOK_S = 0.05
HOLD = "touch /tmp/held; while [ -e /tmp/held ]; do sleep 0.05; done"
"""A command for the coding agent that ends when the test says so."""
ROOM = LocalConfig(cpus=200, memory_mb=1_000_000)
"""More than there is: workspaces of other tests must not be let go for lack of room."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What stands around the program: a code host, a model, a state folder, and who cleans up.

    Attributes:
        model_key: The model takes no other.
        app_key: PEM of the App's private key.
    """

    forge: StandInForge
    model: ScriptedModel
    engine: Engine
    config: Config
    outfit: Outfit
    model_key: str
    app_key: str

    @property
    def nodes(self) -> list[Path]:
        """State folders of the local nodes that there are or were."""
        return sorted((self.config.state / "nodes").glob("node-*"))

    @property
    def owners(self) -> list[str]:
        """The labels by which the nodes' containers are known."""
        return [files.Layout(state=node.absolute()).owner for node in self.nodes]

    async def containers(self, owners: Sequence[str] | None = None) -> list[str]:
        """Return Docker's ids of the nodes' containers, running or not."""
        wanted = self.owners if owners is None else owners
        found = [await self.engine.find({OWNER_LABEL: owner}) for owner in wanted]
        return [container for some in found for container in some]

    async def pulls(self, repository: str) -> list[PullRecord]:
        """Return the pull requests of a repository, newest first."""
        return await self.forge.pulls(repository)


@dataclass(kw_only=True)
class World:
    """A running Samovar; see `world`."""

    stage: Stage
    samovar: Running
    said: int = field(default=0)

    @property
    def forge(self) -> StandInForge:
        """The code host."""
        return self.stage.forge

    async def project(
        self, name: str, files: Mapping[str, str] | None = None, **settings: Any
    ) -> str:
        """Make a project with its repository `acme/{name}`; return the repository's name.

        Args:
            name: Of project and repository.
            files: On top of a devcontainer of the base image; None makes no repository.
            settings: Of `core.project.Project`.
        """
        repository = f"acme/{name}"
        if files is not None:
            image = devcontainer(self.stage.outfit.base_image)
            await self.forge.create_repository(repository, files={**image, **files})
        known = Project(
            id=ProjectId(name),
            **{"repository": repository, "budget_usd": Decimal(3), **settings},
        )
        await self.samovar.parts.store.commit(Insert(known))
        return repository

    async def say(
        self,
        text: str,
        steps: Sequence[Step] = (),
        *,
        project: str = "",
        view: TaskView | None = None,
        ending: str = "",
    ) -> Heard:
        """Say something: a request to a project, or a reply in the thread of `view`.

        The model answers it with `steps`; without any, it makes something up. `ending` comes
        after them, such as `. queue`.
        """
        self.said += 1
        key = f"{self.said}-{secrets.token_hex(3)}"
        words = Words(
            key=key,
            surface="web",
            channel=project or "thread",
            message=key,
            text=(prompt(text, steps) if steps else text) + ending,
            thread=None if view is None else view.thread,
            project=ProjectId(project) if project else None,
        )
        return await self._heard(words)

    async def _heard(self, words: Words) -> Heard:
        """Deliver words until something came of them: on a busy machine that may take a while."""
        async with asyncio.timeout(TASK_S_MAX):
            while True:
                heard = await self.samovar.commands.say(self.samovar.local, words)
                if heard.task_id or heard.said or words.thread:
                    return heard

    async def ask(self, project: str, text: str, steps: Sequence[Step] = ()) -> TaskId:
        """Ask for something and return the task that it became."""
        heard = await self.say(text, steps, project=project)
        assert heard.task_id is not None, heard
        return heard.task_id

    async def reply(
        self, task: TaskId, text: str, steps: Sequence[Step] = (), *, ending: str = ""
    ) -> None:
        """Say something in the thread of a task."""
        await self.say(text, steps, view=await self.view(task), ending=ending)

    async def view(self, task: TaskId) -> TaskView:
        """Return what people see of a task."""
        return await self.samovar.commands.task(self.samovar.local, task)

    async def ended(self, task: TaskId, *, runs: int = 1, within_s: float = TASK_S_MAX) -> TaskView:
        """Wait until that many runs of a task are over and nothing more is to come."""

        def is_over(view: TaskView) -> bool:
            last = view.runs[runs - 1 :][-1:]
            is_rest = view.card.state in {"done", "failed", "cancelled"}
            return is_rest and bool(last) and last[0].ended_at is not None

        return await self._seen(task, is_over, "ended", within_s)

    async def result(self, task: TaskId) -> Result:
        """Wait for the end of a task's first run, and return what people are told of it."""
        result = (await self.ended(task)).card.result
        assert result is not None
        return result

    async def working(self, task: TaskId, *, runs: int = 1) -> TaskView:
        """Wait until the coding agent works."""

        def works(view: TaskView) -> bool:
            return len(view.runs) >= runs and view.card.run_state == "working"

        return await self._seen(task, works, "working", TASK_S_MAX)

    async def asked(self, task: TaskId, kind: str = "question", *, nth: int = 1) -> Question:
        """Wait for the nth decision of a kind to be open, and return it."""

        def find(view: TaskView) -> list[Question]:
            return [one for one in view.card.questions if one.kind == kind][nth - 1 :]

        def is_open(view: TaskView) -> bool:
            return any(one.is_open for one in find(view)[:1])

        return find(await self._seen(task, is_open, f"asked for a {kind}", TASK_S_MAX))[0]

    async def _seen(self, task: TaskId, is_so: Any, what: str, within_s: float) -> TaskView:
        view = await self.view(task)
        try:
            async with asyncio.timeout(within_s):
                while not is_so(view):
                    await asyncio.sleep(LOOK_S)
                    view = await self.view(task)
        except TimeoutError:
            facts = await self._facts(view)
            raise AssertionError(f"{task} is not {what} in {within_s:.0f} s: {facts}") from None
        return view

    async def _facts(self, view: TaskView) -> str:
        """Return what there is to know of a task that does not go on."""
        store, facts = self.samovar.parts.store, [str(view)]
        told = await store.events(after=0, limit=1000, task_id=view.card.task_id)
        facts.extend(f"{event.at:%T.%f} {event.kind} {event.data}" for event in told)
        for session in {run.session_id for run in view.runs if run.session_id}:
            events = await store.session_events(session, after=0, limit=1000)
            facts.extend(f"{event}"[:300] for event in events)
        with suppress(AssertionError, DockerError, IndexError):  # A chat has no workspace.
            facts.append(await self.inside(view.card.task_id, "ps axf -o pid,stat,etime,args"))
        log = self.stage.config.state.parent / "samovar.log"
        facts.extend(log.read_text().splitlines()[-50:])
        return "\n".join(facts)

    async def workspace(self, task: TaskId) -> Workspace:
        """Return the newest workspace of a task."""
        return (await self.samovar.parts.store.find(Workspace, task_id=task))[-1]

    async def inside(self, task: TaskId, script: str) -> str:
        """Run a script in the container of a task's workspace, and return what it printed."""
        workspace = await self.workspace(task)
        done = await self.stage.engine.run(
            workspace.container, ["sh", "-c", script], user=workspace.user, folder=workspace.folder
        )
        assert done.code == 0, done
        return done.text

    async def reached(self, task: TaskId, *, runs: int = 1) -> None:
        """Wait until the coding agent stands at `HOLD`."""
        await self.working(task, runs=runs)
        await until(lambda: self._is_held(task), within_s=TASK_S_MAX)

    async def _is_held(self, task: TaskId) -> bool:
        return "held" in await self.inside(task, "ls /tmp")

    async def go_on(self, task: TaskId) -> None:
        """Let a coding agent that stands at `HOLD` go on."""
        await self.inside(task, "rm /tmp/held")

    async def let_go(self) -> None:
        """Remove all workspaces and nodes, as people can, and wait until they are gone."""
        commands, me = self.samovar.commands, self.samovar.local
        for node in await commands.nodes(me):
            await commands.delete_node(me, node.id)

        async def is_gone() -> bool:
            return not await commands.nodes(me)

        await until(is_gone)

    @property
    def mounts(self) -> list[Path]:
        """What is mounted below the state folder."""
        return mounted_below(self.stage.config.state)


def writing(file: str, *more: Step) -> list[Step]:
    """Return steps that commit a file of this name."""
    command = f"echo {file} > {file} && git add {file} && git commit -qm 'Add {file}'"
    return [step(use("Bash", command=command)), *more, step(say(f"{file} is there."))]


def claude_processes(folder: Path) -> list[int]:
    """Return the processes of Claude Code that work for nodes below `folder`, in any container."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            argv = (proc / "cmdline").read_bytes().split(b"\0")
            mounts = (proc / "mountinfo").read_text()
            if argv[0].endswith(b"/claude") and f"{folder}/" in mounts:
                found.append(int(proc.name))
    return sorted(found)


@asynccontextmanager
async def stage(
    folder: Path, *, model: ModelConfig | None = None, docker_host: str = ""
) -> AsyncGenerator[Stage]:
    """Set up what stands around the program; at the end nothing of it is left on the machine.

    Args:
        folder: For all files.
        model: How the proxy treats the model.
        docker_host: Another engine than the one that the environment names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    private, public = _app_key()
    key_file = folder / "app.pem"
    key_file.touch(mode=0o600)
    key_file.write_text(private)
    outfit = _outfit(folder, docker_host)
    engine = Engine(outfit.docker_host)
    key = f"sk-ant-e2e-{secrets.token_hex(16)}"
    try:
        bridge = await engine.bridge()
        async with (
            StandInForge(
                folder / "forge", app_id=APP_ID, app_public_key=public, host=bridge
            ) as forge,
            ScriptedModel(keys=frozenset({key})) as scripted,
        ):
            config = Config(
                state=folder / "state",
                server=ServerConfig(port=free_port()),
                github=GithubConfig(
                    api_url=forge.api_url,
                    git_url=forge.url,
                    app_id=APP_ID,
                    private_key_file=str(key_file),
                ),
                model=_model(model or ModelConfig(), scripted.url),
                local=ROOM,
                limits=Limits(runs=100, runs_per_person=100),
                clocks=Clocks(sweep_s=2),
            )
            known = Stage(
                forge=forge,
                model=scripted,
                engine=engine,
                config=config,
                outfit=outfit,
                model_key=key,
                app_key=private,
            )
            try:
                yield known
            finally:
                await _sweep(known)
            assert forge.violations == []
    finally:
        await engine.close()


@asynccontextmanager
async def world(folder: Path) -> AsyncGenerator[World]:
    """Run Samovar in this process."""
    async with stage(folder) as around:
        key = _in_environment(around.config.model.key_variable, around.model_key)
        with key, _logging_to(folder / "samovar.log"):
            async with running(around.config, around.outfit) as samovar:
                yield World(stage=around, samovar=samovar)


def _outfit(folder: Path, docker_host: str) -> Outfit:
    """Return the outside parts that the environment names; without one, skip or fail."""
    known = node_settings(folder)
    parts = {
        "docker": docker_host or known.docker_host,
        "base-image": base_image(),
        "node": known.node_js,
        "devcontainer": known.devcontainer_js,
        "claude": str(known.claude),
    }
    return Outfit(parts=parts)


def _model(known: ModelConfig, url: str) -> ModelConfig:
    return ModelConfig(
        api_url=url,
        key_variable=f"SAMOVAR_E2E_{secrets.token_hex(4)}",
        name=known.name,
        triage=known.triage,
        silent_s=known.silent_s,
        retry_s=known.retry_s,
        prices=known.prices,
    )


@contextmanager
def _in_environment(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Keep logs out of the tests' output: the default one prints every variable of a failure."""
    with path.open("a") as file:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.PrintLoggerFactory(file),
        )
        try:
            yield
        finally:
            structlog.reset_defaults()


def _app_key() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


async def _sweep(known: Stage) -> None:
    """Remove node agents, containers, images, mounts and files of this state folder."""
    state = known.config.state
    for node in known.nodes:
        await process.end(node)
    images = {str(note["image"]) for node in known.nodes for note in _good(node)}
    for container in await known.containers():
        seen = await known.engine.inspect(container) or {}
        images.add(str(seen.get("Config", {}).get("Image", "")))
        await known.engine.remove(container)
    for image in images - {base_image(), ""}:
        with suppress(DockerError):
            await known.engine.client.images.delete(image)
    for target in mounted_below(state):
        await overlay.unmount(target)
    await asyncio.to_thread(shutil.rmtree, state, ignore_errors=True)


def _good(node: Path) -> list[dict[str, Any]]:
    notes = [files.read_json(path) for path in (node / "good").glob("*.json")]
    return [note for note in notes if note is not None]


def mounted_below(folder: Path) -> list[Path]:
    """Return what is mounted below a folder."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    targets = [Path(line.split(" ")[1]) for line in lines]
    return [target for target in targets if folder in target.parents]
