"""Run git on the host so that no repository can make it run anything.

No system or user configuration, no hooks, no helper that a repository names, only the transports
that a call needs. Credentials reach git through an anonymous file in memory, never through its
arguments, its environment, an address or the disk.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from agent.errors import NodeError
from agent.process import Finished, Identity, Overdue, Watch, run

LOCAL_S = 600
"""Deadline of a git command that works on this host's disk only."""
NETWORK_S = 2 * 3600
NETWORK_SILENCE_S = 120
"""A fetch or push may take long (W10), but it must say something about its progress."""

SAFE = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "advice.detachedHead=false",
    "safe.directory=*",
    "transfer.fsckObjects=false",
)
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user name and password for one address."""

    url: str
    username: str
    password: str = field(repr=False)


class GitFailed(Exception):  # noqa: N818  the caller says what it means for people
    """git ended with another code than 0.

    Attributes:
        code: Its exit code.
        complaint: The end of what it wrote to standard error.
    """

    def __init__(self, argv: Sequence[str], done: Finished) -> None:
        super().__init__(f"git {' '.join(argv)[:200]}: {done.complaint}")
        self.code = done.code
        self.complaint = done.complaint


def environment() -> dict[str, str]:
    """Return the environment in which git runs on this host."""
    kept = {name: os.environ[name] for name in (*PASSED_ON, *TRUST) if name in os.environ}
    return kept | {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CEILING_DIRECTORIES": "/",
    }


async def git(
    *argv: str,
    repository: Path | None = None,
    protocols: Sequence[str] = (),
    login: Login | None = None,
    identity: Identity | None = None,
    stdin: bytes | None = None,
    extra: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
    check: bool = True,
    watch: Watch | None = None,
) -> Finished:
    """Run one git command in the git directory `repository`.

    `protocols` are the transports that this call may use: `http`, `https`, `file`. `extra` are
    more environment variables, such as `GIT_WORK_TREE`. `keep_open` are files that git inherits,
    such as a lock that must live as long as git. With `check`, another exit code than 0 raises.

    Raises:
        GitFailed: If it ended with another code than 0 and `check` is set.
        NodeError: `git_slow` if it was over its deadline.
    """
    settings = [*SAFE, *(f"protocol.{name}.allow=always" for name in protocols)]
    surroundings = environment() | dict(extra or {})
    if repository:
        surroundings["GIT_DIR"] = str(repository)
    with _memory_file(login) as (handle, helper):
        command = ["git", *(part for s in (*settings, *helper) for part in ("-c", s)), *argv]
        try:
            done = await run(
                command,
                environment=surroundings,
                time_limit_s=NETWORK_S if protocols else LOCAL_S,
                silence_limit_s=NETWORK_SILENCE_S if protocols else None,
                identity=identity,
                stdin=stdin,
                keep_open=(*handle, *keep_open),
                watch=watch,
            )
        except Overdue as error:
            raise NodeError(
                "git_slow",
                f"git {argv[0]} made no progress and was stopped; try again when the network is "
                "better.",
            ) from error
    if check and done.code:
        raise GitFailed(argv, done)
    return done


@contextmanager
def _memory_file(login: Login | None) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
    """Yield the open file with the login, and the settings that make git read it there."""
    if login is None:
        yield (), ()
        return
    descriptor = os.memfd_create("git-credential")
    try:
        os.write(descriptor, f"username={login.username}\npassword={login.password}\n".encode())
        show = f'!f() {{ test "$1" = get && cat /proc/self/fd/{descriptor}; }}; f'
        yield (descriptor,), (f"credential.{origin(login.url)}.helper={show}",)
    finally:
        os.close(descriptor)


def origin(url: str) -> str:
    """Return scheme, host and port of an address: `https://forge.example:8443`."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
