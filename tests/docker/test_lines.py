"""The promises of `Line`, held by a holder on this machine, one in a container, and docker exec."""

import asyncio
import json
import os
import signal
import sys
import zlib
from collections.abc import AsyncGenerator
from dataclasses import asdict
from pathlib import Path

import pytest

from agent.terminal.exec_line import ExecLine
from agent.terminal.held_line import HeldLine
from agent.terminal.holder import REST_BYTES
from agent.terminal.line import Shell
from core.viewing import Size
from tests.fakes.serving import until
from tests.fakes.terminals import (
    Bench,
    container_bench,
    docker_host,
    host_bench,
    read_rest,
    read_until,
)

KINDS = {"host": HeldLine, "held": HeldLine, "exec": ExecLine}
HELD = ["host", pytest.param("held", marks=pytest.mark.docker)]
ALL = [*HELD, pytest.param("exec", marks=pytest.mark.docker)]
UNREAD_BYTES_MAX = 8 << 20
COUNTING = """
stty -opost
i=0
while :; do
  printf '%01000d' $i
  i=$((i + 1))
  echo $i >"$1/count"
done
"""


@pytest.fixture(params=ALL)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Bench]:
    if request.param == "host":
        async with host_bench() as bench:
            yield bench
    else:
        async with container_bench(tmp_path, has_python=request.param == "held") as bench:
            yield bench


held = pytest.mark.parametrize("bench", HELD, indirect=True)


async def test_it_is_held_inside_wherever_there_is_a_python(
    bench: Bench, request: pytest.FixtureRequest
) -> None:
    line = await bench.open(bench.script("exit 7"))
    assert type(line) is KINDS[request.node.callspec.params["bench"]]
    assert await read_rest(line) == b""


async def test_1_every_byte_comes_once_in_order_and_with_its_offset(bench: Bench) -> None:
    line = await bench.open(
        bench.script("stty -opost; for i in $(seq 1 9999); do echo $i zażółć 🦀; done")
    )
    wanted = "".join(f"{i} zażółć 🦀\n" for i in range(1, 10_000)).encode()
    seen = b""
    async with asyncio.timeout(60):
        while (piece := await line.read())[1]:
            assert piece[0] == len(seen)
            seen += piece[1]
    assert seen == wanted
    assert await line.read() == (len(wanted), b"")
    assert await line.exit_code() == 0


async def test_1_what_was_not_read_when_the_shell_ended_is_read_after_it(bench: Bench) -> None:
    for size in range(10_000, 90_000, 10_007):
        done = f"{size}.done"
        script = f'stty -opost; yes é | head -c {size} | dd bs=999 status=none; touch "$1/{done}"'
        line = await bench.open(bench.script(script))
        await until(bench.file(done).exists)
        said = await read_rest(line)
        assert said == ("é\n".encode() * size)[:size]
        assert await line.exit_code() == 0


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", -9)])
async def test_1_the_end_has_a_code(bench: Bench, script: str, code: int) -> None:
    line = await bench.open(bench.script(f"echo so; {script}"))
    assert await read_rest(line) == b"so\r\n"
    assert await line.exit_code() == code


async def test_2_a_shell_that_nobody_reads_stops_until_somebody_does(bench: Bench) -> None:
    line = await bench.open(bench.script(COUNTING))
    stopped = await standstill(bench)
    assert stopped * 1000 < UNREAD_BYTES_MAX
    seen = 0
    async with asyncio.timeout(60):
        while seen <= stopped * 1000:
            offset, data = await line.read()
            assert offset == seen
            seen += len(data)
    await until(lambda: count(bench) > stopped)


def count(bench: Bench) -> int:
    """Return how far the counting shell has come; it empties its file before it writes."""
    file = bench.file("count")
    said = ""
    while file.exists() and not said:
        said = file.read_text().strip()
    return int(said or 0)


async def standstill(bench: Bench) -> int:
    """Return how far the counting shell came when it had not gone on for a second."""
    await until(lambda: count(bench) > 0)
    before = -1
    async with asyncio.timeout(60):
        while (now := count(bench)) != before:
            before = now
            await asyncio.sleep(1)
    return now


async def test_3_typing_waits_while_the_shell_does_not_read_and_loses_nothing(
    bench: Bench,
) -> None:
    sent = bytes(range(256)) * 16_384
    script = 'stty raw -echo; echo ready; while [ ! -e "$1/go" ]; do sleep 0.05; done; '
    line = await bench.open(bench.script(f"{script} head -c {len(sent)} | gzip -1 | tail -c 8"))
    await read_until(line, b"ready")
    async with asyncio.TaskGroup() as group:
        typing = group.create_task(line.write(sent))
        await asyncio.wait([typing], timeout=1)
        assert not typing.done()
        bench.file("go").touch()
        trailer = (await read_rest(line))[-8:]
    check = zlib.crc32(sent).to_bytes(4, "little") + len(sent).to_bytes(4, "little")
    assert trailer == check


async def test_3_control_c_interrupts_and_is_a_byte_like_others_in_raw_mode(bench: Bench) -> None:
    line = await bench.open(
        bench.script('trap "echo caught; exit 7" INT; echo ready; while :; do sleep 0.05; done')
    )
    await read_until(line, b"ready")
    await line.write(b"\x03")
    assert b"caught" in await read_rest(line)
    assert await line.exit_code() == 7
    raw = await bench.open(bench.script("stty raw -echo; echo ready; head -c 3 | od -An -tx1"))
    await read_until(raw, b"ready")
    await raw.write(b"\x03\x1a\x1c")
    assert b"03 1a 1c" in await read_rest(raw)


async def test_4_the_shell_runs_as_the_user_in_the_folder_with_the_environment(
    bench: Bench,
) -> None:
    shell = bench.script(
        "id -un; pwd; echo $HELLO $TERM $COLORTERM; stty size; tty",
        folder="/usr",
        env={**bench.shell().env, "HELLO": "grüß=dich"},
        size=Size(133, 41),
    )
    said = (await read_rest(await bench.open(shell))).decode().splitlines()
    assert said[:2] == [bench.user, "/usr"]
    assert said[2:4] == ["grüß=dich xterm-256color truecolor", "41 133"]
    assert said[4].startswith("/dev/pts/")


async def test_4_the_shell_sees_another_size(bench: Bench) -> None:
    line = await bench.open(
        bench.script("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")
    )
    await read_until(line, b"ready")
    await line.resize(Size(200, 50))
    await read_until(line, b"50 200")


async def test_4_without_a_command_it_is_the_login_shell(bench: Bench) -> None:
    line = await bench.open(bench.shell())
    await line.write(b'echo "<$SHELL $USER $HOME>"; exit 5\n')
    said = await read_rest(line)
    assert f" {bench.user} {bench.home}>".encode() in said
    assert b"</bin/" in said or b"</usr/bin/" in said
    assert await line.exit_code() == 5


async def test_4_a_folder_that_is_not_there_is_told_and_home_is_taken(bench: Bench) -> None:
    line = await bench.open(bench.script("pwd", folder="/no/such"))
    said = (await read_rest(line)).decode()
    assert "samovar: cannot enter /no/such" in said
    assert said.splitlines()[-1] == bench.home


async def test_4_a_command_that_is_not_there_is_told_and_exits_with_127(bench: Bench) -> None:
    line = await bench.open(bench.shell("no-such-command"))
    assert b"there is no command no-such-command here" in await read_rest(line)
    assert await line.exit_code() == 127


async def test_4_nothing_of_ours_comes_along(bench: Bench) -> None:
    line = await bench.open(
        bench.script("ls /proc/self/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status; env")
    )
    said = (await read_rest(line)).decode().split()
    assert [word for word in said if word.isdigit() and len(word) < 3] == ["0", "1", "2", "3"]
    assert [set(word) for word in said if len(word) == 16] == [{"0"}, {"0"}]
    assert not [word for word in said if word.startswith("SAMOVAR_HOLDER")]


async def test_5_hang_up_ends_the_shell_kindly_and_what_it_started(bench: Bench) -> None:
    line = await bench.open(
        bench.script(
            f"""
            trap 'touch "$1/bye"; exit 3' HUP
            (trap '' HUP; exec sleep {bench.mark}) &
            sleep {bench.mark} &
            echo ready
            while :; do sleep 0.05; done
            """
        )
    )
    await read_until(line, b"ready")
    assert await bench.processes(bench.mark)
    await line.hang_up()
    assert bench.file("bye").exists()
    assert not await bench.processes(bench.mark)
    await read_rest(line)
    assert await line.exit_code() == 3
    await line.hang_up()


async def test_5_hang_up_ends_one_that_will_not_and_that_nobody_reads(bench: Bench) -> None:
    line = await bench.open(bench.script(f"trap '' HUP TERM INT; {COUNTING}"))
    await until(lambda: count(bench) > 0)
    await line.hang_up()
    await read_rest(line)
    assert await line.exit_code() == -9


async def test_6_a_shell_goes_on_after_it_was_let_go_of(bench: Bench) -> None:
    line = await bench.open(
        bench.script(f'while :; do sleep 0.05; echo x >>"$1/count"; done; : {bench.mark}')
    )
    await until(bench.file("count").exists)
    await line.close()
    before = bench.file("count").stat().st_size
    await until(lambda: bench.file("count").stat().st_size > before + 4)
    await line.hang_up()
    assert not await bench.processes(bench.mark)


async def test_finding_one_that_is_not_there_finds_nothing(bench: Bench) -> None:
    assert await bench.find(bench.shell(), after=0) is None
    await bench.open(bench.shell())
    assert await bench.find(bench.shell(), after=0) is None


@pytest.mark.docker
@pytest.mark.parametrize("bench", ["exec"], indirect=True)
async def test_a_shell_by_exec_ends_with_its_node_agent(bench: Bench) -> None:
    shell = bench.script(f"echo ready; sleep {bench.mark}")
    line = await bench.open(shell)
    await read_until(line, b"ready")
    await line.close()
    assert await bench.find(shell, after=0) is None
    assert not await bench.processes(bench.mark)


@pytest.mark.docker
@pytest.mark.parametrize("bench", ["held", "exec"], indirect=True)
async def test_6_who_ends_the_container_ends_its_shells_and_others_can_be_opened(
    bench: Bench,
) -> None:
    shell = bench.script(f"echo ready; sleep {bench.mark}")
    line = await bench.open(shell)
    await read_until(line, b"ready")
    assert bench.engine
    await bench.engine.stop(bench.container, grace_s=0)
    await read_rest(line)
    await bench.engine.start(bench.container)
    assert await bench.find(shell, after=0) is None
    assert not await bench.processes(bench.mark)
    assert await read_rest(await bench.open(bench.script("echo so"))) == b"so\r\n"


@held
async def test_a_shell_is_found_again_from_where_it_was_read(bench: Bench) -> None:
    shell = bench.script("echo first; read x; echo second; read x; echo third")
    line = await bench.open(shell)
    seen = await read_until(line, b"first\r\n")
    await line.close()
    again = await bench.find(shell, after=len(seen))
    assert again is not None
    await again.write(b"a\n")
    seen += await read_until(again, b"second\r\n")
    await again.close()
    last = await bench.find(shell, after=len(b"first"))
    assert last is not None
    assert await last.read() == (5, seen[5:])
    await last.write(b"b\n")
    assert (await read_rest(last)).endswith(b"third\r\n")
    assert await last.exit_code() == 0


@held
async def test_a_shell_goes_on_when_its_node_agent_is_killed(bench: Bench) -> None:
    shell = bench.script("echo first; read x; echo got $x")
    words = (sys.executable, "-m", "tests.fakes.terminal_process", plan(bench, shell))
    killed = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert killed.stdout
    assert await killed.stdout.readline()
    os.killpg(killed.pid, signal.SIGKILL)
    await killed.wait()
    found = await bench.find(shell, after=0)
    assert found is not None
    await found.write(b"it\n")
    said = await read_rest(found)
    assert said.startswith(b"first\r\n")
    assert b"got it" in said


def plan(bench: Bench, shell: Shell) -> str:
    size = (shell.size.columns, shell.size.rows)
    values = {**asdict(shell), "run_dir": str(shell.run_dir), "size": size}
    return json.dumps({"shell": values, "docker": bench.engine and docker_host()})


@held
async def test_nothing_is_lost_or_repeated_over_many_reconnections(bench: Bench) -> None:
    shell = bench.script("stty -opost; for i in $(seq 1 60000); do echo $i; done")
    line = await bench.open(shell)
    seen = b""
    async with asyncio.timeout(100):
        while True:
            for _ in range(3):
                offset, data = await line.read()
                assert offset == len(seen)
                seen += data
            if not data:
                break
            await line.close()
            found = await bench.find(shell, after=len(seen))
            assert found is not None
            line = found
    assert seen == b"".join(b"%d\n" % i for i in range(1, 60_001))


@held
async def test_the_rest_and_the_code_are_kept_until_they_were_fetched(bench: Bench) -> None:
    shell = bench.script('echo rest; touch "$1/done"; exit 9')
    line = await bench.open(shell)
    await line.close()
    await until(bench.file("done").exists)
    for _ in range(2):  # One who was killed before it had asked for the code has not fetched it.
        found = await bench.find(shell, after=0)
        assert found is not None
        assert await read_until(found, b"rest\r\n") == b"rest\r\n"
    assert (await found.read())[1] == b""
    assert await found.exit_code() == 9
    await found.close()
    assert await bench.find(shell, after=0) is None


@held
async def test_a_shell_that_nobody_looks_at_goes_on_and_its_offsets_leap(bench: Bench) -> None:
    shell = bench.script(f"stty -opost; seq 1 500000; touch '{bench.inside}/t/done'; sleep 1000")
    wanted = b"".join(b"%d\n" % i for i in range(1, 500_001))
    line = await bench.open(shell)
    offset, data = await line.read()
    assert (offset, data) == (0, wanted[: len(data)])
    await line.close()
    await until(bench.file("done").exists)
    found = await bench.find(shell, after=len(data))
    assert found is not None
    async with asyncio.timeout(60):
        at, data = await found.read()
        assert 0 <= len(wanted) - (1 << 20) - at < REST_BYTES, "but for what its PTY still held"
        while at + len(data) < len(wanted):
            assert data == wanted[at : at + len(data)]
            at, data = await found.read()


@held
async def test_the_newer_connection_to_a_shell_ends_the_older_one(bench: Bench) -> None:
    shell = bench.script("echo ready; read x; echo got $x")
    older = await bench.open(shell)
    await read_until(older, b"ready")
    newer = await bench.open(shell)
    assert (await older.read())[1] == b""
    assert await older.exit_code() is None
    await newer.write(b"it\n")
    assert b"got it" in await read_rest(newer)


@held
async def test_a_hundred_megabytes_come_through(bench: Bench) -> None:
    total = 100 << 20
    line = await bench.open(bench.script(f"stty raw; head -c {total} /dev/zero"))
    seen = 0
    async with asyncio.timeout(100):
        while data := (await line.read())[1]:
            seen += len(data)
    assert seen == total
