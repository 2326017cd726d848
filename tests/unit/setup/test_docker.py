import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.setup import bridge, docker
from bot.setup.docker import Docker
from bot.setup.dockerd import Dockerd
from bot.setup.missing import MissingError
from bot.setup.requirement import Site
from tests.fakes.lacking import lacking

Program = Callable[[str, str], Path]


@given(st.sets(st.sampled_from(bridge.CANDIDATES), max_size=len(bridge.CANDIDATES) - 1))
def test_our_network_overlaps_none_that_is_used(taken: set[str]) -> None:
    used = [next(IPv4Network(each).subnets(new_prefix=20)) for each in taken]
    chosen = bridge.free_network([*used, IPv4Network("172.17.0.0/16")])
    assert not any(chosen.overlaps(each) for each in used)


def test_a_machine_on_all_private_networks_is_told_a_way_out() -> None:
    with pytest.raises(MissingError) as caught:
        bridge.free_network([IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12")])
    assert "DOCKER_HOST" in caught.value.mend


def test_an_engine_that_runs_no_container_does_not_count(site: Site, program: Program) -> None:
    """`docker version` answers on many a machine where no container can be started."""
    program("docker", 'case "$3" in run) echo "no cgroups here"; exit 125;; esac')
    with pytest.raises(MissingError, match=r"runs no container: no cgroups here"):
        Docker().probe(site)


def test_the_engine_that_people_name_is_the_one(site: Site, program: Program) -> None:
    program("docker", 'test "$2" = tcp://builder:2375')
    named = replace(site, environ={"DOCKER_HOST": "tcp://builder:2375"})
    assert Docker().probe(named) == "tcp://builder:2375"


def test_an_engine_that_people_named_is_waited_for_and_never_replaced(
    site: Site, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = replace(site, environ={"DOCKER_HOST": "tcp://builder:2375"})
    program("dockerd", "exit 1")
    back = tmp_path / "back"
    program("docker", f"test -e {back} || {{ touch {back}; exit 1; }}")
    Docker().provide(named)
    assert Docker().probe(named) == "tcp://builder:2375"
    program("docker", "exit 1")
    monkeypatch.setattr(docker, "COMES_BACK_S", 0)
    with pytest.raises(MissingError, match="builder:2375, does not answer") as caught:
        Docker().provide(named)
    assert "unset DOCKER_HOST" in caught.value.mend


def test_a_machine_without_docker_is_told_the_command(site: Site, program: Program) -> None:
    forbidden = replace(site, may_install=False)
    for ask in (Docker().probe, Docker().provide):
        with pytest.raises(MissingError, match="not installed") as caught:
            ask(forbidden)
        assert "apt-get install -y docker.io" in caught.value.mend


def test_a_state_folder_too_deep_for_a_socket_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="too long for a socket") as caught:
        Dockerd(tmp_path / ("deep" * 30)).start(site)
    assert "SAMOVAR_STATE" in caught.value.mend


def test_a_foreign_process_with_our_pid_is_not_taken_for_our_engine(tmp_path: Path) -> None:
    (tmp_path / "docker.pid").write_text(str(os.getpid()))
    assert not Dockerd(tmp_path).is_running()


class Bare(Dockerd):
    def _write_config(self, site: Site) -> None:
        self._config.write_text("{}")

    def _forget_the_killed(self) -> None:
        """Nothing was killed."""

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        self.engine = super()._spawn(command)
        return self.engine


def test_an_engine_that_takes_its_time_is_waited_for(
    site: Site, program: Program, tmp_path: Path
) -> None:
    program("dockerd", f"/bin/sleep 3.5; : > {tmp_path}/up")
    program("docker", f"test -e {tmp_path}/up")
    slow = Bare(tmp_path / "docker")
    slow.start(site)
    assert slow.engine.wait(60) == 0


def test_an_engine_that_ends_at_once_is_shown_with_its_own_words(
    site: Site, program: Program, tmp_path: Path
) -> None:
    program("dockerd", "echo no overlay here; exit 1")
    program("docker", "exit 1")
    with pytest.raises(MissingError, match="does not start: no overlay here"):
        Bare(tmp_path / "docker").start(site)


STORY = """
import json, os, signal, sys
from pathlib import Path
from bot.setup.docker import Docker
from bot.setup.dockerd import Dockerd
from bot.setup.requirement import Site, meet
from bot.setup.shell import run

state = Path(sys.argv[1])
def engine():
    site = Site(state=state, may_install=False, progress=lambda line: None)
    (finding,) = meet([Docker(state / "nobody.sock")], site)
    assert finding.ok, finding.detail
    return finding.detail
dockerd = Dockerd(state / "docker")
first, pid = engine(), dockerd._pid()
docker = ["docker", "-H", first]
again, same = engine(), dockerd._pid() == pid
ours = [path for path in ("/usr", "/lib", "/lib64") if os.path.exists(path)]
mounts = [f"--mount=type=bind,src={path},dst={path},ro" for path in ours]
sleeper = [*mounts, "samovar-probe:1", "/usr/bin/sleep", "600"]
container = run([*docker, "run", "-d", *sleeper], limit_s=60).strip()
os.kill(pid, signal.SIGKILL)
while dockerd.is_running():
    pass
third = engine()
lives = run([*docker, "inspect", "-f", "{{.State.Running}}", container], limit_s=60).strip()
links = json.loads(run(["ip", "-j", "link"], limit_s=10))
run([*docker, "rm", "-f", container], limit_s=60)
with dockerd.in_use():
    dockerd.stop()
    kept = dockerd.is_running()
dockerd.stop()
left = [link["ifname"] for link in json.loads(run(["ip", "-j", "link"], limit_s=10))]
print(json.dumps({
    "hosts": [first, again, third], "same": same, "lives": lives, "left": left,
    "kept": kept, "stopped": not dockerd.is_running(),
    "bridges": sum(link["ifname"].startswith("samovar") for link in links),
}))
"""


BRIDGE = """
import json, sys
from pathlib import Path
from bot.setup import bridge
from bot.setup.requirement import Site
from bot.setup.shell import run
site = Site(state=Path("/nowhere"), may_install=False, progress=lambda line: None)
def mac(name):
    (link,) = json.loads(run(["ip", "-j", "link", "show", name], limit_s=10))
    return link["address"]
def containers_come(name):
    for number in range(3):
        low = ("address", f"00:00:00:00:00:0{number + 1}")
        run(["ip", "link", "add", f"{name}p{number}", *low, "type", "veth"], limit_s=10)
        run(["ip", "link", "set", f"{name}p{number}", "master", name], limit_s=10)
new = bridge.provide("a", site).name
macs = [mac(new)]
containers_come(new)
macs += [mac(new), mac(bridge.provide("a", site).name)]
old = ["ip", "link", "add", "old", "type", "bridge"]
run(old, limit_s=10)
run(["ip", "link", "set", "old", "alias", "b"], limit_s=10)
run(["ip", "addr", "add", "10.250.0.1/24", "dev", "old"], limit_s=10)
assert bridge.provide("b", site).name == "old"
olds = [mac("old")]
containers_come("old")
olds.append(mac("old"))
print(json.dumps({"new": macs, "old": olds}))
"""


@pytest.mark.docker
def test_the_address_of_our_bridge_stays_while_containers_come_and_go() -> None:
    """Also that of one which an older version made."""
    if os.geteuid() or not shutil.which("unshare"):
        lacking("root and unshare, for a bridge")
    command = ["unshare", "--net", sys.executable, "-c", BRIDGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"new": ["02:42:0a:c9:00:01"] * 3, "old": ["02:42:0a:fa:00:01"] * 2}


@pytest.mark.docker
def test_our_own_engine_is_found_again_survives_a_kill_and_is_stopped_by_its_pid() -> None:
    """In a network namespace of its own, so that it meets no other engine's firewall rules."""
    if os.geteuid() or not shutil.which("dockerd") or not shutil.which("unshare"):
        lacking("root, dockerd and unshare, for an engine of our own")
    state = Path(tempfile.mkdtemp(prefix="sv-"))  # pytest's own are too deep for a socket.
    command = ["unshare", "--net", sys.executable, "-c", STORY, str(state)]
    environ = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
    finally:
        assert not Dockerd(state / "docker").is_running()
        data = state / "docker" / "data"  # A killed engine leaves it mounted on itself.
        while f" {data} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", data], check=True)
        shutil.rmtree(state)
    assert told["hosts"] == [f"unix://{state}/docker/docker.sock"] * 3
    assert told["kept"], "it was stopped while somebody used it"
    assert told["same"]
    assert told["lives"] == "true"
    assert told["stopped"]
    assert told["bridges"] == 1
    assert not [name for name in told["left"] if name.startswith("samovar")]
