"""The composition root: the only module that knows every part."""

import os
import secrets
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog

from adapters.anthropic.proxy import ModelProxy
from adapters.anthropic.triage import AnthropicTriage
from adapters.anthropic.upstream import Key, ProxyLimits
from adapters.disk.files import DiskFiles
from adapters.github import forge as github
from adapters.github.push_gate import PushGate
from adapters.local.compute import LocalCompute
from adapters.memory.triage import PlainTriage
from adapters.nodelink.files import NodeFiles
from adapters.nodelink.server import NodeLink
from adapters.store.links import SqlLinkStore
from adapters.store.migrate import migrate
from adapters.store.store import SqlStore, open_store
from adapters.store.tickets import SqlEnrolment
from adapters.store.work import SqlWork
from adapters.system import SystemClock, boottime
from adapters.web.app import Served, api_app, web_app
from bot.agent_file import agent_file
from bot.commands import BotCommands
from bot.config import Config, ProjectConfig
from bot.conversation import Conversation
from bot.credentials import Credentials
from bot.doors import WorkspaceDoors
from bot.fetching import may_fetch
from bot.grants import StoredGrants
from bot.keys import FILES, vault
from bot.people import People
from bot.preview_keys import PreviewKeys
from bot.previews import WorkspacePreviews
from bot.pulse import Pulse
from bot.records import Cards
from bot.setup import Outfit
from core.access import Person
from core.engine import Engine, Reconciler
from core.errors import ConfigError
from core.ids import NodeId, ProjectId, ReplicaId, SessionId, TaskId
from core.ports.chat import Chat
from core.ports.compute import Compute
from core.ports.files import Files
from core.ports.forge import Forge
from core.ports.store import Insert, Update
from core.ports.triage import Triage
from core.prices import Price, Prices
from core.project import Project
from core.reconcile.copies import CopyReconciler
from core.reconcile.nodes import NodeReconciler, OrphanReconciler
from core.reconcile.outbox import OutboxReconciler
from core.reconcile.placing import Machines
from core.reconcile.recordings import RecordingReconciler, RecordingSweep
from core.reconcile.runs import RunReconciler
from core.reconcile.stuck import Stuck
from core.reconcile.sweeps import ReminderReconciler
from core.reconcile.tasks import AdmissionReconciler, TaskReconciler
from core.reconcile.terminals import TerminalReconciler
from core.reconcile.workspaces import WorkspaceReconciler
from core.secret import Secret
from core.wire import SessionDelta

log = structlog.get_logger(__name__)

SWEEPS = ("admission", "copies", "orphans", "recordings", "reminders")
"""Kinds of objects with the key `all` that are looked at from time to time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What runs.

    Attributes:
        app: Everything that is served by TCP.
        local_app: The API for whoever may open the unix socket.
    """

    store: SqlStore
    engine: Engine
    pulse: Pulse
    link: NodeLink
    local: LocalCompute | None
    forge: Forge
    commands: BotCommands
    people: People
    doors: WorkspaceDoors
    app: Served
    local_app: Callable[[Person], Served]


@asynccontextmanager
async def wire(
    config: Config,
    outfit: Outfit,
    *,
    store: SqlStore | None = None,
    forge: Forge | None = None,
    computes: Mapping[str, Compute] | None = None,
    chats: Mapping[str, Chat] | None = None,
    replica: ReplicaId | None = None,
) -> AsyncGenerator[Parts]:
    """Build every part in the order of need; close them in reverse, whatever happens.

    Args:
        config: What the operator set.
        outfit: What was found on this machine.
        store: Our records, open; else those of the configuration.
        forge: The code host; else that of the configuration.
        computes: Suppliers of nodes by name, besides this computer.
        chats: By surface, those that are written to; the chat page reads our records by itself.
        replica: The name of this life of this process; else a new one.
    """
    clock, replica = SystemClock(), replica or _new_replica()
    async with AsyncExitStack() as stack:
        if store is None:
            watches = config.database.watch_sessions
            opened = open_store(config.database_url, watches_sessions=watches)
            store = await stack.enter_async_context(opened)
        await _keep_projects(store, config.projects)
        if forge is None:
            forge = stack.enter_context(closing(code_host(config)))
        people = People(store=store, clock=clock, clocks=config.clocks)
        doors = WorkspaceDoors(store=store, clock=clock, clocks=config.clocks)
        prices = _prices(config)
        grants = StoredGrants(store=store, clock=clock)
        proxy = await stack.enter_async_context(
            ModelProxy(
                grants=grants,
                upstream=config.model.api_url,
                key=_key(config),
                prices=prices,
                limits=ProxyLimits(
                    silent_s_max=config.model.silent_s, retry_s_max=config.model.retry_s
                ),
            )
        )
        gate = await stack.enter_async_context(PushGate(grants=grants, forge=forge))
        credentials = Credentials(store=store, forge=forge, ttl_s=config.clocks.git_token_s)
        agent = agent_file()
        files = DiskFiles(config.state / FILES, vault(config.state))
        link = NodeLink(
            SqlLinkStore(store, clock=clock, credential=credentials.credential),
            SqlEnrolment(store, clock=clock),
            replica=replica,
            agent_files={agent.sha256: agent.data},
            files=NodeFiles(files, partial(may_fetch, store)),
            heartbeat_s=config.clocks.heartbeat_s,
        )
        local = _local(config, outfit) if config.local.enabled else None
        computes = {**(computes or {}), **({"local": local} if local else {})}
        cards = Cards(store=store, clock=clock, page_url=_page_url(config))
        conversation = Conversation(
            store=store, triage=_triage(config), clock=clock, clocks=config.clocks
        )
        work = SqlWork(store.database)
        pulse = Pulse(
            work=work,
            clock=clock,
            sweeps=SWEEPS,
            period_s=config.clocks.sweep_s,
            boottime=boottime,
        )
        commands = BotCommands(
            store=store,
            conversation=conversation,
            cards=cards,
            people=people,
            nodes_link=link,
            files=files,
            doors=doors,
            pulse=pulse,
            clock=clock,
            clocks=config.clocks,
        )
        previews = WorkspacePreviews(
            store=store,
            nodes_link=link,
            clock=clock,
            keys=PreviewKeys(store=store, clock=clock, clocks=config.clocks),
            keeps=commands.keep,
        )
        engine = Engine(
            work=work,
            clock=clock,
            clocks=config.clocks,
            replica=replica,
            boottime=boottime,
            url=config.public_url,
            version=version("samovar"),
            on_stuck=Stuck(store=store, clock=clock, clocks=config.clocks),
            reconcilers=_reconcilers(
                config,
                outfit,
                store=store,
                forge=forge,
                clock=clock,
                computes=computes,
                chats=chats or {},
                people=people,
                cards=cards,
                conversation=conversation,
                link=link,
                files=files,
            ),
            report=_report,
        )

        def deltas(session: SessionId) -> AsyncIterator[SessionDelta]:
            return _of_session(link, session)

        yield Parts(
            store=store,
            engine=engine,
            pulse=pulse,
            link=link,
            local=local,
            forge=forge,
            commands=commands,
            people=people,
            doors=doors,
            app=web_app(
                commands=commands,
                sign_in=people,
                doors=doors,
                previews=previews,
                deltas=deltas,
                public_url=config.public_url,
                domain=config.domain,
                xterm=outfit.xterm,
                player=outfit.player,
                mounts={"/llm": proxy.app, "/git": gate.app, "/node/v1": link.app},
            ),
            local_app=lambda actor: api_app(
                commands,
                actor=actor,
                previews=previews,
                deltas=deltas,
                public_url=config.public_url,
            ),
        )


async def migrated(config: Config) -> list[str]:
    """Bring the records up to the newest schema; return what was applied."""
    return await migrate(config.database_url)


def _report(event: str, /, **fields: object) -> None:
    """Log what the engine tells; what went wrong is a warning."""
    is_wrong = "failed" in event or "crashed" in event or "lost" in event
    (log.warning if is_wrong else log.info)(event, **fields)


def _new_replica() -> ReplicaId:
    """Return the name of this life of this process."""
    return ReplicaId(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}")


def _new_node() -> NodeId:
    return NodeId(f"node-{secrets.token_hex(4)}")


def _page_url(config: Config) -> Callable[[TaskId], str]:
    return lambda task_id: f"{config.public_url}/tasks/{task_id}"


async def _of_session(link: NodeLink, session: SessionId) -> AsyncIterator[SessionDelta]:
    async with aclosing(link.deltas()) as deltas:
        async for delta in deltas:
            if delta.session == session:
                yield delta


def code_host(config: Config) -> github.GitHubForge:
    """Return the code host of the configuration.

    Raises:
        ConfigError: It is not set up, or its key cannot be read.
    """
    if not config.github.app_id or not config.github.private_key_file:
        raise ConfigError(
            "No code host is set up. Set [github] app_id and private_key_file in the "
            "configuration file, or try `./samovar demo` first."
        )
    path = Path(config.github.private_key_file).expanduser()
    try:
        key = path.read_text()
    except OSError as error:
        raise ConfigError(f"github.private_key_file: {path}: {error.strerror}") from error
    return github.build(
        app_id=config.github.app_id,
        private_key=Secret(key),
        now=SystemClock().now,
        api_url=config.github.api_url,
    )


def _prices(config: Config) -> Prices:
    return Prices(
        of={
            price.model: Price(
                input=price.input,
                output=price.output,
                cache_read=price.cache_read,
                cache_write=price.cache_write,
            )
            for price in config.model.prices
        }
    )


def _model_key(config: Config) -> str:
    return os.environ.get(config.model.key_variable, "")


def _key(config: Config) -> Callable[[], Awaitable[Key | None]]:
    async def key() -> Key | None:
        value = _model_key(config)
        return Key(secret=Secret(value)) if value else None

    return key


def _triage(config: Config) -> Triage:
    key = _model_key(config)
    if not key:
        return PlainTriage()
    return AnthropicTriage(
        key=Secret(key),
        model=config.model.triage,
        url=config.model.api_url,
        took_s_max=config.clocks.triage_s,
    )


async def _keep_projects(store: SqlStore, projects: Sequence[ProjectConfig]) -> None:
    """Bring the projects of the configuration into the records."""
    for one in projects:
        wanted = Project(
            id=ProjectId(one.id),
            repository=one.repository,
            branch=one.branch,
            size=one.size,  # type: ignore[arg-type]  # checked as the file was read
            checks=one.checks,
            budget_usd=one.budget_usd,
            devcontainer=one.devcontainer,
            allow=one.allow,
        )
        found = await store.find(Project, id=wanted.id)
        if not found:
            await store.commit(Insert(wanted, once=True))
        elif replace(found[0], version=0) != wanted:
            await store.commit(Update(replace(wanted, version=found[0].version)))


def _local(config: Config, outfit: Outfit) -> LocalCompute:
    """Return this computer as a supplier of nodes."""
    cpus, memory_mb = _room(config)
    docker = {"DOCKER_HOST": outfit.docker_host}
    musl = {"claude_musl": str(outfit.claude_musl)} if outfit.claude_musl else {}
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return LocalCompute(
        state=config.state / "nodes",
        url=f"http://{config.server.host}:{config.server.port}",
        command=[sys.executable, "-P", "-m", "agent"],
        settings={
            "docker_host": outfit.docker_host,
            "node_js": str(outfit.node),
            "devcontainer_js": str(outfit.devcontainer_js),
            "claude": str(outfit.claude),
            **musl,
            "cpus": cpus,
            "memory_mb": memory_mb,
            "version": version("samovar"),  # Another one restarts the node agent.
        },
        installation=_installation(config),
        env={**inherited, **docker},
    )


def _room(config: Config) -> tuple[float, int]:
    """Return the processors and mebibytes that workspaces on this computer may use in all."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cpus = config.local.cpus or 2.0 * (os.cpu_count() or 1)
    return cpus, config.local.memory_mb or pages * 3 // 4 // 2**20


def _installation(config: Config) -> str:
    """Return the name of this installation, made once and kept in the state folder."""
    path = config.state / "installation"
    if not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text()


def _reconcilers(
    config: Config,
    outfit: Outfit,
    *,
    store: SqlStore,
    forge: Forge,
    files: Files,
    link: NodeLink,
    clock: SystemClock,
    computes: Mapping[str, Compute],
    chats: Mapping[str, Chat],
    people: People,
    cards: Cards,
    conversation: Conversation,
) -> Mapping[str, Reconciler]:
    """Return who looks after each kind of object."""
    clocks, page_url = config.clocks, _page_url(config)
    git_url = config.github.git_url.rstrip("/")
    supplier = "local" if "local" in computes else ""
    return {
        "inbox": conversation,
        "task": TaskReconciler(store=store, clock=clock, clocks=clocks, limits=config.limits),
        "admission": AdmissionReconciler(store=store),
        "run": RunReconciler(
            store=store,
            forge=forge,
            clock=clock,
            clocks=clocks,
            model=config.model.name,
            installation=_installation(config),
            supplier=supplier,
            nodes_max=1,
            mint=_new_node,
            page_url=lambda task: page_url(task.id),
        ),
        "workspace": WorkspaceReconciler(
            store=store,
            files=files,
            nodes=link,
            clock=clock,
            clocks=clocks,
            machines=Machines(supplier=supplier, nodes_max=1, mint=_new_node),
            url=lambda repo: f"{git_url}/{repo}.git",
            image=config.workspace.image or outfit.base_image,
        ),
        "copies": CopyReconciler(store=store, files=files, clock=clock, clocks=clocks),
        "terminal": TerminalReconciler(store=store, clock=clock, clocks=clocks),
        "recording": RecordingReconciler(
            store=store, nodes=link, files=files, clock=clock, clocks=clocks
        ),
        "recordings": RecordingSweep(store=store, files=files, clock=clock),
        "node": NodeReconciler(
            store=store,
            clock=clock,
            clocks=clocks,
            computes=computes,
            enrolment=people.enrolment,
        ),
        "outbox": OutboxReconciler(store=store, chats=chats, render=cards.render),
        "orphans": OrphanReconciler(store=store, computes=computes),
        "reminders": ReminderReconciler(store=store, clock=clock, clocks=clocks),
    }
