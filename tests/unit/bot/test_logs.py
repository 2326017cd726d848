import subprocess
import sys

import pytest

from bot.logs import redacted


def line(**fields: object) -> dict[str, object]:
    return dict(redacted(None, "info", {"event": "x.happened", **fields}))


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-CANARYCANARYCANARYcanary",
        "ghs_CANARYCANARYcanary",
        "ghp_CANARYCANARYcanary",
        "github_pat_11AA_CANARYcanary",
        "wst_CANARYCANARYcanary",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJDQU5BUlkifQ.CANARY",
    ],
)
def test_g5_a_secret_is_taken_out_of_a_line_by_its_looks(secret: str):
    said = line(error=f"GET https://x:{secret}@github.com failed", nested={"a": [secret]})
    assert "CANARY" not in repr(said)
    assert "GET https://x:" in str(said["error"])


def test_g5_a_bearer_and_a_key_file_are_taken_out():
    said = line(error="Authorization: Bearer abc.CANARY", more="-----BEGIN RSA PRIVATE KEY-----")
    assert "CANARY" not in repr(said)
    assert "BEGIN" not in repr(said)


def test_g5_a_secret_is_taken_out_by_the_name_of_its_field():
    said = line(token="CANARY", api_key="CANARY", headers={"Cookie": "CANARY", "accept": "x"})
    assert "CANARY" not in repr(said)
    assert said["headers"] == {"Cookie": "***", "accept": "x"}


def test_what_is_no_secret_stays_as_it_is():
    fields = {"tokens": 12, "took_ms": 3, "ok": True, "refs": ["main"], "reason": None}
    assert line(**fields) == {"event": "x.happened", **fields}


SERVE = """
import asyncio, sys
import aiohttp, uvicorn
from bot.logs import set_up_logs

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["path"] == "/bug":
        raise RuntimeError("broken")

async def main():
    set_up_logs()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as client:
        try:
            async with client.get(f"http://127.0.0.1:{port}{sys.argv[1]}") as answer:
                await answer.read()
        except aiohttp.ClientPayloadError:
            print("cut")
    server.should_exit = True
    await serving

asyncio.run(main())
"""


@pytest.mark.parametrize(("path", "said"), [("/cut", []), ("/bug", ["RuntimeError: broken"])])
def test_a_stream_that_is_cut_is_no_error_of_the_server_and_a_bug_is(path: str, said: list[str]):
    done = subprocess.run(
        [sys.executable, "-c", SERVE, path], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "cut\n"
    assert done.stderr.splitlines()[-1:] == said
