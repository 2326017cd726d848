"""A stand-in code host with the App that the GitHub adapter plays, and git as a person runs it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.github.forge import GitHubForge, build
from bot.demo.forge.server import StandInForge
from core.ports.forge import GitAccess
from core.secret import Secret

APP_ID = "4711"


@dataclass
class Time:
    """The time of code host and adapter. It stands still until a test moves it."""

    at: float

    def seconds(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@cache
def app_key() -> tuple[Secret, str]:
    """Return the App's private and public key in PEM, made once per process."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Secret(private.decode()), public.decode()


@asynccontextmanager
async def code_host(
    root: Path, time: Time, *, allow_violations: bool = False
) -> AsyncIterator[StandInForge]:
    """Run a stand-in; at the end nothing may have broken GitHub's description."""
    stand_in = StandInForge(root, app_id=APP_ID, app_public_key=app_key()[1], now=time.seconds)
    async with stand_in:
        yield stand_in
        if not allow_violations:
            assert stand_in.violations == []


def github(stand_in: StandInForge, time: Time, *, private_key: Secret | None = None) -> GitHubForge:
    """Return the adapter pointed at a stand-in."""
    return build(
        app_id=APP_ID,
        private_key=private_key or app_key()[0],
        api_url=stand_in.api_url,
        now=time.now,
    )


@dataclass(frozen=True)
class Done:
    """How a git command ended."""

    status: int
    said: str


async def git(
    *arguments: str, cwd: Path, access: GitAccess | None = None, check: bool = True
) -> Done:
    """Run git. The token goes by the environment, as a credential helper hands it over."""
    env = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ana",
        "GIT_AUTHOR_EMAIL": "ana@example.org",
        "GIT_COMMITTER_NAME": "Ana",
        "GIT_COMMITTER_EMAIL": "ana@example.org",
        "USERNAME": access.username if access else "",
        "TOKEN": access.token.reveal() if access else "",
    }
    helper = "!f() { echo username=$USERNAME; echo password=$TOKEN; }; f"
    options = ["-c", "credential.helper="] + (
        ["-c", f"credential.helper={helper}"] if access else []
    )
    process = await asyncio.create_subprocess_exec(
        "git",
        *options,
        *arguments,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    done = Done(process.returncode or 0, out.decode(errors="replace").strip())
    assert done.status == 0 or not check, done.said
    return done


async def commit_file(work: Path, name: str, text: str, *, message: str) -> str:
    """Commit one file in a working tree and return the commit's id."""
    (work / name).write_text(text)
    await git("add", name, cwd=work)
    await git("commit", "--quiet", "-m", message, cwd=work)
    return (await git("rev-parse", "HEAD", cwd=work)).said
