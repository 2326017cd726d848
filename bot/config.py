"""The configuration file: every setting with its default. config.example.toml says why each is."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from bot.state import state_dir
from core.clocks import Clocks
from core.errors import ConfigError
from core.limits import Limits
from core.project import SIZES, RepoRef

FILE = "config.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where people, node agents and webhooks reach us, and what workspaces' names end in."""

    host: str = "127.0.0.1"
    port: int = 8420
    public_url: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """Where records are; empty means SQLite in the state folder."""

    url: str = ""
    watch_sessions: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GithubConfig:
    """The code host and our App there."""

    api_url: str = "https://api.github.com"
    git_url: str = "https://github.com"
    app_id: str = ""
    private_key_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceConfig:
    """What a million tokens of a model cost, in dollars."""

    model: str
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal


_PRICES = (
    PriceConfig(
        model="claude-opus-5-5",
        input=Decimal(4),
        output=Decimal(20),
        cache_read=Decimal("0.4"),
        cache_write=Decimal(5),
    ),
    PriceConfig(
        model="claude-haiku-5-5",
        input=Decimal(1),
        output=Decimal(5),
        cache_read=Decimal("0.1"),
        cache_write=Decimal("1.25"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The model behind the coding agent."""

    api_url: str = "https://api.anthropic.com"
    key_variable: str = "ANTHROPIC_API_KEY"
    name: str = "claude-opus-5-5"
    triage: str = "claude-haiku-5-5"
    silent_s: float = 90
    retry_s: float = 60
    prices: tuple[PriceConfig, ...] = _PRICES


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """Use of this computer. 0 means: twice its processors, three quarters of its memory."""

    enabled: bool = True
    cpus: float = 0
    memory_mb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceConfig:
    """What workspaces are made of.

    An empty image means the one that the set-up of this computer chose, if it is a node.
    """

    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """One repository with its settings."""

    id: str
    repository: str
    branch: str = ""
    size: str = "small"
    checks: tuple[str, ...] = ()
    budget_usd: Decimal = Decimal(3)
    devcontainer: str = ""
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that an operator may set.

    Attributes:
        state: Folder for everything that Samovar keeps on this machine.
    """

    state: Path = field(default_factory=state_dir)
    server: ServerConfig = field(default_factory=ServerConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    github: GithubConfig = field(default_factory=GithubConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    workspace: WorkspaceConfig = field(default_factory=WorkspaceConfig)
    limits: Limits = field(default_factory=Limits)
    clocks: Clocks = field(default_factory=Clocks)
    projects: tuple[ProjectConfig, ...] = ()

    def __post_init__(self) -> None:
        if not (self.local.enabled or self.workspace.image):
            raise ValueError(
                "workspace.image: name an image that the nodes have or can pull. With "
                "local.enabled = false none is made here"
            )

    @property
    def database_url(self) -> str:
        """The address of our records."""
        return self.database.url or f"sqlite:///{self.state / 'samovar.db'}"

    @property
    def public_url(self) -> str:
        """Where people's browsers find us, without a slash at the end."""
        own = f"http://{self.server.host}:{self.server.port}"
        return (self.server.public_url or own).rstrip("/")

    @property
    def domain(self) -> str:
        """What names of workspaces end in, `ws-{id}.{domain}`; empty where they can have none.

        Browsers take every name below `localhost` for this computer
        (https://www.w3.org/TR/secure-contexts/#localhost).
        """
        name = self.server.domain or urlsplit(self.public_url).hostname or ""
        try:
            return "localhost" if ip_address(name).is_loopback else ""
        except ValueError:
            return name.lower().strip(".")


def load(path: Path | None) -> Config:
    """Read the configuration: `path`, else `config.toml` in the state folder, else the defaults.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, missing or impossible.
    """
    usual = state_dir() / FILE
    if path is None and not usual.exists():
        return Config()
    path = path or usual
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    config = _build(Config, table, "")
    _check(config)
    return config


def _check(config: Config) -> None:
    seen: set[str] = set()
    for project in config.projects:
        where = f"projects.{project.id}"
        if project.id in seen:
            raise ConfigError(f"{where}: there are two projects of this name")
        if project.size not in SIZES:
            raise ConfigError(f"{where}.size: {project.size!r} is not one of {', '.join(SIZES)}")
        try:
            RepoRef.parse(project.repository)
        except ValueError as error:
            raise ConfigError(f"{where}.repository: {error}") from error
        seen.add(project.id)


T = TypeVar("T")


def _build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a settings object of a TOML table."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass by call
    hints = get_type_hints(kind)
    for name in table:
        if name not in known:
            raise ConfigError(f"{where}{name}: unknown setting; known: {', '.join(known)}")
    for name, one in known.items():
        is_wanted = one.default is MISSING and one.default_factory is MISSING
        if is_wanted and name not in table:
            raise ConfigError(f"{where}{name}: missing")
    values = {name: _value(hints[name], value, f"{where}{name}") for name, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: a table is wanted")
        return _build(hint, value, f"{where}.")
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: a list is wanted")
        item = get_args(hint)[0]
        return tuple(_value(item, one, f"{where}[{n}]") for n, one in enumerate(value))
    if hint in {Decimal, float} and isinstance(value, int | float) and value is not True:
        return Decimal(str(value)) if hint is Decimal else float(value)
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: {value!r} is not of type {hint.__name__}")
    return value
