"""git's smart HTTP protocol by git itself: `git http-backend`, streamed both ways.

The environment that it wants is described in git-http-backend(1). aiohttp has inflated the
request already, so neither its length nor its encoding is passed on: without CONTENT_LENGTH
git reads to the end.
"""

import asyncio
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

from aiohttp import ClientPayloadError, web

from bot.demo.forge.repositories import Repositories, environment
from bot.demo.forge.tokens import Tokens, credential

CHUNK = 1 << 16


async def serve_git(
    request: web.Request, repositories: Repositories, tokens: Tokens
) -> web.StreamResponse:
    """Check the token like GitHub does and hand the request to git."""
    name = f"{request.match_info['owner']}/{request.match_info['name']}"
    refusal = _refusal(request, name, repositories, tokens)
    if refusal is not None:
        return refusal
    process = await asyncio.create_subprocess_exec(
        "git", "http-backend", stdin=PIPE, stdout=PIPE, env=_cgi(request, name, repositories)
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(request, process))
            answer = group.create_task(_answer(request, process))
        return answer.result()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise
    finally:  # Without a signal: one to a child that just ended would take its status away.
        await process.wait()


def _refusal(
    request: web.Request, name: str, repositories: Repositories, tokens: Tokens
) -> web.Response | None:
    token = tokens.find(credential(request.headers.get("Authorization", "")))
    if token is None:
        return web.Response(
            status=401,
            text="Invalid username or token.\n",
            headers={"WWW-Authenticate": 'Basic realm="GitHub"'},
        )
    if name not in token.repositories or not repositories.exists(name):
        return web.Response(status=404, text="Repository not found.\n")
    service = request.query.get("service") or request.path.rpartition("/")[2]
    if not token.may("contents", "write" if service == "git-receive-pack" else "read"):
        return web.Response(status=403, text="Write access to repository not granted.\n")
    return None


def _cgi(request: web.Request, name: str, repositories: Repositories) -> dict[str, str]:
    return environment() | {
        "GIT_PROJECT_ROOT": str(repositories.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_HTTP_MAX_REQUEST_BUFFER": "100M",
        "PATH_INFO": f"/{name}.git/{request.match_info['path']}",
        "QUERY_STRING": request.query_string,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_USER": "x-access-token",
    }


async def _feed(request: web.Request, process: Process) -> None:
    if process.stdin is None:
        return
    try:
        async for chunk in request.content.iter_chunked(CHUNK):
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (ConnectionError, ClientPayloadError):
        return  # Either git has heard enough and says so in its answer, or the caller is gone.
    finally:
        process.stdin.close()


async def _answer(request: web.Request, process: Process) -> web.StreamResponse:
    if process.stdout is None:
        raise web.HTTPInternalServerError
    response = web.StreamResponse()
    while line := (await process.stdout.readline()).strip():
        key, _, value = line.decode().partition(": ")
        if key == "Status":
            response.set_status(int(value.split()[0]))
        else:
            response.headers[key] = value
    try:
        await response.prepare(request)
        while chunk := await process.stdout.read(CHUNK):
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:  # The caller is gone; `serve_git` ends the process.
        process.kill()
    return response
