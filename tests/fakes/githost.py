"""A code host of bare repositories behind `git http-backend`, with Basic authentication."""

import asyncio
import base64
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "gc.auto",  # In the background it would write into what is removed.
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_AUTHOR_NAME": "Ana",
    "GIT_AUTHOR_EMAIL": "ana@example.com",
    "GIT_COMMITTER_NAME": "Ana",
    "GIT_COMMITTER_EMAIL": "ana@example.com",
}


@dataclass
class GitHost:
    """Repositories, who may read and write them, and levers."""

    root: Path
    readers: dict[str, str] = field(default_factory=lambda: {"reader": "read-secret"})
    writers: dict[str, str] = field(default_factory=lambda: {"writer": "write-secret"})
    pushes: list[str] = field(default_factory=list)
    answer_with: int | None = None
    base_url: str = ""
    route: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    """Answers instead of `handle`."""

    def url(self, name: str) -> str:
        return f"{self.base_url}/{name}.git"

    def git(self, name: str, *argv: str) -> str:
        return git(self.root / f"{name}.git", *argv)

    def add(self, name: str, files: Mapping[str, str | bytes]) -> str:
        """Make a repository whose branch `main` has one commit with `files`; return the commit."""
        bare = self.root / f"{name}.git"
        bare.mkdir(parents=True)
        git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
        git(bare, "config", "http.receivepack", "true")
        return self.commit(name, files)

    def commit(self, name: str, files: Mapping[str, str | bytes], branch: str = "main") -> str:
        """Add one commit with `files` to a branch, made from main if it is new."""
        bare = self.root / f"{name}.git"
        work = self.root / f".work-{name.replace('/', '-')}"
        subprocess.run(["rm", "-rf", work], check=True)
        git(self.root, "clone", "--quiet", str(bare), str(work))
        if branch != "main":
            start = [f"origin/{branch}"] if self.head(name, branch) else []
            git(work, "checkout", "--quiet", "-B", branch, *start)
        for path, content in files.items():
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if isinstance(content, str) and content.startswith("-> "):
                target.symlink_to(content[3:])
            else:
                target.write_bytes(content.encode() if isinstance(content, str) else content)
        git(work, "add", "--all", "--force")
        git(work, "commit", "--quiet", "--allow-empty", "-m", "change")
        git(work, "push", "--quiet", "origin", f"HEAD:{branch}")
        return git(work, "rev-parse", "HEAD")

    def grow(self, name: str, files: Mapping[str, str]) -> None:
        """Add one commit with plain files to main without a working tree: fast, however many."""
        lines = [
            "commit refs/heads/main\ncommitter Ana <ana@example.com> now",
            "data 4\ngrow\nfrom refs/heads/main^0",
            *(f"M 100644 inline {path}\ndata {len(text)}\n{text}" for path, text in files.items()),
        ]
        assert all(text.isascii() for text in lines)
        subprocess.run(
            ["git", "fast-import", "--quiet", "--date-format=now"],
            cwd=self.root / f"{name}.git",
            env=ENVIRONMENT,
            input="\n".join(lines).encode(),
            check=True,
        )

    def head(self, name: str, branch: str) -> str:
        """Return the commit of a branch, empty if there is no such branch."""
        done = subprocess.run(
            [
                "git",
                "-C",
                self.root / f"{name}.git",
                "rev-parse",
                "-q",
                "--verify",
                f"refs/heads/{branch}",
            ],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
        return done.stdout.strip()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.answer_with:
            return web.Response(status=self.answer_with, text="as the test wants")
        user = self._user(request)
        is_push = "git-receive-pack" in request.path_qs
        allowed = self.writers if is_push else self.readers | self.writers
        if user is None or user not in allowed:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        repository = request.path.split(".git/")[0].strip("/")
        if not (self.root / f"{repository}.git").exists():
            return web.Response(status=404, text="Repository not found")
        if is_push and request.method == "POST":
            self.pushes.append(user)
        return await self._backend(request, user)

    def _user(self, request: web.Request) -> str | None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name if (self.readers | self.writers).get(name) == password else None

    async def _backend(self, request: web.Request, user: str) -> web.StreamResponse:
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=ENVIRONMENT
            | {
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": request.path,
                "QUERY_STRING": request.query_string,
                "REQUEST_METHOD": request.method,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "REMOTE_USER": user,
            },
        )
        out, _ = await process.communicate(await request.read())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        return web.Response(status=status, headers=headers, body=body)


def git(folder: Path, *argv: str) -> str:
    """Run git in a folder and return what it printed."""
    done = subprocess.run(
        ["git", *argv], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@asynccontextmanager
async def git_host(root: Path, *, host: str = "127.0.0.1") -> AsyncIterator[GitHost]:
    """Serve the repositories below `root`."""
    forge = GitHost(root=root)
    app = web.Application(client_max_size=1 << 30)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (forge.route or forge.handle)(request)

    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host=host, auto_decompress=False) as server:
        forge.base_url = str(server.make_url("")).rstrip("/")
        yield forge
