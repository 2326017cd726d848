"""Local nodes as processes: found again, started again, ended exactly."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from adapters.local import files, process
from adapters.local.compute import LocalCompute
from bot.agent_file import agent_file
from core.ids import NodeId
from core.secret import Secret
from tests.fakes.node_link import ControlPlane
from tests.fakes.serving import until

A, B = NodeId("node-0000000a"), NodeId("node-0000000b")
TOKEN = Secret("one-time")
STAND_IN = ("/bin/sh", "-c", "exec sleep 1000")

Make = Callable[..., LocalCompute]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncGenerator[Make]:
    def made(url: str = "http://127.0.0.1:1", command: tuple[str, ...] = STAND_IN) -> LocalCompute:
        return LocalCompute(
            state=tmp_path / "nodes",
            url=url,
            command=command,
            settings={"claude": "/opt/claude"},
            installation="ours",
            env={"PATH": "/usr/bin:/bin"},
            look_s=0.01,
        )

    yield made
    for server in await made().servers():
        await made().destroy(server.ref)


def pid_of(tmp_path: Path, node: NodeId = A) -> int | None:
    return process.find(tmp_path / "nodes" / node)


async def test_w7_a_node_agent_is_adopted_by_the_next_process(make: Make, tmp_path: Path) -> None:
    await make().create(A, size="small", enrolment=TOKEN)
    first = pid_of(tmp_path)
    assert first is not None
    assert os.getsid(first) == first
    await make().create(A, size="small", enrolment=TOKEN)
    assert pid_of(tmp_path) == first


async def test_a_child_that_got_the_id_of_an_earlier_agent_is_left_to_whoever_waits_for_it(
    make: Make, tmp_path: Path
) -> None:
    await make().create(A, size="small", enrolment=TOKEN)
    stamp = tmp_path / "nodes" / A / process.STAMP
    stat, boot = stamp.read_text().splitlines()
    with subprocess.Popen(["sh", "-c", "exit 7"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        stamp.write_text(f"{child.pid} {stat.partition(' ')[2]}\n{boot}\n")
        assert pid_of(tmp_path) is None
        assert child.wait() == 7
    stamp.write_text(f"{stat}\n{boot}\n")


async def test_one_whose_settings_changed_is_started_with_the_new_ones(
    make: Make, tmp_path: Path
) -> None:
    await make().create(A, size="small", enrolment=TOKEN)
    first = pid_of(tmp_path)
    await make(url="http://127.0.0.1:2").create(A, size="small", enrolment=TOKEN)
    assert pid_of(tmp_path) not in {first, None}


async def test_one_that_dies_is_started_again_and_the_token_is_never_in_argv(
    make: Make, tmp_path: Path
) -> None:
    compute = make()
    await compute.create(A, size="small", enrolment=TOKEN)
    first = pid_of(tmp_path)
    assert first is not None
    assert b"one-time" not in Path(f"/proc/{first}/cmdline").read_bytes()
    assert (tmp_path / "nodes" / A / "join.json").stat().st_mode & 0o077 == 0
    async with asyncio.TaskGroup() as group:
        running = group.create_task(compute.run())
        os.kill(first, signal.SIGKILL)
        await until(lambda: pid_of(tmp_path) not in {first, None})
        running.cancel()


async def test_one_that_dies_at_once_is_started_less_and_less_often(
    make: Make, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    starts.touch()
    compute = make(command=("/bin/sh", "-c", f"echo x >> {starts}; exit 1"))
    await compute.create(A, size="small", enrolment=TOKEN)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(compute.run())
        began = loop.time()
        await until(lambda: starts.read_text().count("x") >= 6)
        running.cancel()
    assert loop.time() - began >= 0.01 * (2 + 4 + 8 + 16)


async def test_w11_destroy_ends_this_process_and_no_other(make: Make, tmp_path: Path) -> None:
    compute = make()
    await compute.create(A, size="small", enrolment=TOKEN)
    await compute.create(B, size="small", enrolment=TOKEN)
    other = pid_of(tmp_path, B)
    await compute.destroy(A)
    assert not (tmp_path / "nodes" / A).exists()
    assert pid_of(tmp_path, B) == other


async def test_w11_a_process_that_got_the_id_later_is_not_ours(make: Make, tmp_path: Path) -> None:
    await make().create(A, size="small", enrolment=TOKEN)
    stamp = tmp_path / "nodes" / A / process.STAMP
    ours = pid_of(tmp_path)
    assert ours is not None
    text = stamp.read_text()
    stamp.write_text(text.replace(f"{ours} ", f"{os.getpid()} ", 1))
    assert pid_of(tmp_path) is None
    stamp.write_text(text)


async def test_one_that_ignores_the_polite_way_is_killed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LET_GO_S_MAX", 0.2)
    compute = make(command=("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"))
    await compute.create(A, size="small", enrolment=TOKEN)
    await compute.destroy(A)
    assert not (tmp_path / "nodes" / A).exists()


async def test_g4_rescue_copies_outlive_their_node(make: Make, tmp_path: Path) -> None:
    compute = make()
    await compute.create(A, size="small", enrolment=TOKEN)
    rescue = tmp_path / "nodes" / A / "rescue"
    rescue.mkdir()
    (rescue / "w.bundle").write_bytes(b"work")
    await compute.destroy(A)
    assert [file.read_bytes() for file in (tmp_path / "nodes/kept").rglob("*.bundle")] == [b"work"]
    assert list(await compute.servers()) == []


async def test_g4_copies_of_nodes_that_are_gone_go_when_their_time_is_over(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept/node-1"
    (kept / "discarded").mkdir(parents=True)
    for name, note in {
        "pushed.bundle": {"remote_at": 1000.0},
        "only-here.bundle": {"remote_at": 0},
        "bare.bundle": None,
        "uncollected.tar.gz": None,
        "discarded/thrown.tar": None,
    }.items():
        (kept / name).write_bytes(b"work")
        if note is not None:
            (kept / f"{name}.json").write_text(json.dumps(note))
    month_s = 30 * 86_400
    files.expire(tmp_path / "kept", now=1000.0 + month_s - 1)
    assert (kept / "pushed.bundle").exists()
    files.expire(tmp_path / "kept", now=time.time() + month_s + 1)
    assert {path.name for path in kept.rglob("*") if path.is_file()} == {
        "only-here.bundle",
        "only-here.bundle.json",
        "bare.bundle",
        "uncollected.tar.gz",
    }


async def test_w1_a_local_node_joins_links_and_survives_its_supervisor(
    plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "samovar-agent.pyz").write_bytes(agent_file().data)

    def compute() -> LocalCompute:
        return LocalCompute(
            state=tmp_path / "nodes",
            url=plane.url,
            command=(sys.executable, "-I", "-S", str(tmp_path / "samovar-agent.pyz")),
            settings={"docker_host": "unix:///nowhere", "cpus": 3, "memory_mb": 123},
            installation="ours",
            env={"PATH": os.environ["PATH"]},
            look_s=0.05,
        )

    first = compute()
    await first.create(A, size="small", enrolment=Secret(plane.store.add_enrolment(A)))
    try:
        await until(lambda: A in plane.link.connected())
        assert plane.link.connected()[A].cpus == 3
        assert not (tmp_path / "nodes" / A / "join.json").exists()
        before = pid_of(tmp_path)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(compute().run())
            await asyncio.sleep(0.2)
            assert pid_of(tmp_path) == before
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await until(lambda: plane.store.log.count(f"connected {A}") >= 2)
            running.cancel()
    finally:
        await first.destroy(A)
    await until(lambda: A not in plane.link.connected())
