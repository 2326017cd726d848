"""What a repository's devcontainer may not do, without Docker."""

import itertools
import re
import string
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NodeError
from agent.policy import CODES, Review, Scene, added, devcontainer_id, mount_parts, refuse, running
from agent.policy import review as judge
from agent.run_args import CODES as ARGUMENT_CODES
from agent.run_args import Argument, parse, render

CHECKOUT = PurePosixPath("/state/ws/abc/src/web")


def is_inside(path: PurePath) -> bool:
    parts: list[str] = []
    for part in path.parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return PurePosixPath(*parts).is_relative_to(CHECKOUT)


def scene(*allow: str) -> Scene:
    return Scene(
        checkout=CHECKOUT,
        folder=CHECKOUT / ".devcontainer",
        allow=frozenset(allow),
        volumes="samovar-abc-",
        labels={"samovar.workspace": "abc", "samovar.attempt": "1"},
        is_inside=is_inside,
        is_closed=lambda path: path.name != "leaky",
    )


def review(raw: Mapping[str, Any], *allow: str) -> Review:
    return judge(raw, scene(*allow))


STRIPPED = [
    ({"initializeCommand": "rm -rf /"}, "initialize_command"),
    ({"initializeCommand": ["touch", "/x"]}, "initialize_command"),
    ({"privileged": True}, "privileged"),
    ({"capAdd": ["SYS_ADMIN"]}, "capability"),
    ({"securityOpt": ["seccomp=unconfined"]}, "security_option"),
    ({"appPort": [8080]}, "published_port"),
    ({"mounts": ["source=/etc,target=/e,type=bind"]}, "host_mount"),
    ({"mounts": [{"source": "/", "target": "/h", "type": "bind"}]}, "host_mount"),
    ({"mounts": ["src=/var/run/docker.sock,dst=/s,type=bind"]}, "docker_socket"),
    ({"mounts": ["source=${localEnv:HOME}/.ssh,target=/s,type=bind"]}, "host_mount"),
    ({"mounts": ["source=${localWorkspaceFolder}/../..,target=/s,type=bind"]}, "host_mount"),
    ({"mounts": ['type=volume,"source=x,source=/etc",target=/y']}, "host_mount"),
    (
        {"mounts": ["type=volume,source=x,target=/y,volume-opt=device=/etc,volume-opt=o=bind"]},
        "host_mount",
    ),
    ({"mounts": ["type=npipe,source=x,target=/y"]}, "host_mount"),
    ({"workspaceMount": "source=/,target=/w,type=bind"}, "host_mount"),
    ({"runArgs": ["--privileged"]}, "privileged"),
    ({"runArgs": ["--privileged=true"]}, "privileged"),
    ({"runArgs": ["--network=host"]}, "host_namespace"),
    ({"runArgs": ["--net", "host"]}, "host_namespace"),
    ({"runArgs": ["--network", "container:other"]}, "host_namespace"),
    ({"runArgs": ["--pid=host"]}, "host_namespace"),
    ({"runArgs": ["--ipc", "host"]}, "host_namespace"),
    ({"runArgs": ["-v", "/:/host"]}, "host_mount"),
    ({"runArgs": ["-v/:/host"]}, "host_mount"),
    ({"runArgs": ["-itv", "/:/host"]}, "host_mount"),
    ({"runArgs": ["-v=/var/run/docker.sock:/s"]}, "docker_socket"),
    ({"runArgs": ["--mount", "type=bind,source=/etc,target=/e"]}, "host_mount"),
    ({"runArgs": ["--volumes-from", "other"]}, "host_mount"),
    ({"runArgs": ["--cap-add=ALL"]}, "capability"),
    ({"runArgs": ["--security-opt", "apparmor=unconfined"]}, "security_option"),
    ({"runArgs": ["--device", "/dev/sda"]}, "device"),
    ({"runArgs": ["--gpus", "all"]}, "device"),
    ({"runArgs": ["-p", "22:22"]}, "published_port"),
    ({"runArgs": ["-P"]}, "published_port"),
    ({"runArgs": ["--env-file", "/etc/shadow"]}, "outside_path"),
    ({"runArgs": ["--cidfile", "/etc/cron.d/x"]}, "run_argument"),
    ({"runArgs": ["--label", "samovar.workspace=other"]}, "run_argument"),
    ({"runArgs": ["--memory=64g"]}, "run_argument"),
    ({"runArgs": ["other-image"]}, "run_argument"),
    ({"runArgs": ["--", "other-image"]}, "run_argument"),
    ({"runArgs": ["--flag-of-tomorrow", "x"]}, "run_argument"),
    ({"build": {"dockerfile": "D", "options": ["--network=host"]}}, "build_option"),
]


@pytest.mark.parametrize(("raw", "code"), STRIPPED)
def test_w6_what_our_override_can_take_out_is_taken_out_and_said(
    raw: dict[str, Any], code: str
) -> None:
    seen = review(raw)
    assert {finding.code for finding in seen.stripped} == {code}
    assert CODES[code] in seen.stripped[0].sentence
    assert review(seen.raw).stripped == () or "workspaceMount" in raw
    permitted = review(raw, code)
    assert permitted.stripped == () or "workspaceMount" in raw or '"' in str(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"build": {"dockerfile": "../../../etc/passwd"}},
        {"build": {"dockerfile": "Dockerfile", "context": "/"}},
        {"dockerFile": "/etc/shadow"},
        {"build": {"dockerfile": "${localEnv:HOME}/../../../../D"}},
        {"context": "../.."},
        {"dockerComposeFile": ["docker-compose.yml", "../../../x.yml"]},
        {"features": {"../../../feature": {}}},
        {"features": {"./leaky": {}}},
        {"image": "--privileged"},
    ],
)
def test_w6_a_build_that_leaves_the_checkout_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(NodeError) as refused:
        review(raw)
    assert refused.value.code == "policy_refused"


def test_harmless_configurations_stay_as_they_are() -> None:
    raw = {
        "image": "python:3.13",
        "build": {"dockerfile": "../Dockerfile", "context": "..", "args": {"A": "b"}},
        "runArgs": ["--shm-size=1g", "--init", "--network=none", "--env=A=b", "--ulimit=core=0"],
        "mounts": ["source=/state/ws/abc/src/web/data,target=/d,type=bind"],
        "remoteUser": "dev",
        "postCreateCommand": {"a": "make", "b": ["npm", "ci"]},
    }
    assert review(raw) == Review(raw=raw, stripped=())


def test_volumes_are_named_after_the_workspace() -> None:
    raw = {"mounts": ["source=cache,target=/c,type=volume", "target=/anonymous"]}
    assert [mount_parts(m) for m in review(raw).raw["mounts"]] == [
        {"source": "samovar-abc-cache", "target": "/c", "type": "volume"},
        {"target": "/anonymous"},
    ]


def test_variables_of_the_node_are_empty() -> None:
    raw = {
        "containerEnv": {"A": "${localEnv:HOME}", "B": "${localEnv:X:tea}", "C": "${env:PATH}"},
        "remoteEnv": {"D": "${containerEnv:PATH}", "E": "${localWorkspaceFolderBasename}"},
    }
    assert review(raw).raw == {
        "containerEnv": {"A": "", "B": "tea", "C": ""},
        "remoteEnv": {"D": "${containerEnv:PATH}", "E": "web"},
    }


@pytest.mark.parametrize(
    ("merged", "code"),
    [
        ({"privileged": True}, "privileged"),
        ({"capAdd": ["SYS_PTRACE"]}, "capability"),
        ({"securityOpt": ["seccomp=unconfined"]}, "security_option"),
        ({"mounts": [{"source": "/etc", "target": "/e", "type": "bind"}]}, "host_mount"),
        ({"mounts": ["source=/var/run/docker.sock,target=/s,type=bind"]}, "docker_socket"),
        ({"mounts": [{"source": "shared", "target": "/e", "type": "volume"}]}, "shared_volume"),
    ],
)
def test_w6_what_a_feature_or_an_image_adds_is_refused_unless_permitted(
    merged: dict[str, Any], code: str
) -> None:
    found = added(merged, {"mounts": []}, scene())
    assert [finding.code for finding in found] == [code]
    with pytest.raises(NodeError, match=code):
        refuse(found)
    assert added(merged, {"mounts": []}, scene(code)) == []


def test_what_we_add_ourselves_is_not_held_against_the_image() -> None:
    ours = {"mounts": ["type=bind,source=/tools,target=/opt,readonly"], "capAdd": ["X"]}
    own_volume = {"source": f"dind-{devcontainer_id(scene().labels)}", "target": "/v"}
    merged = {"mounts": [*ours["mounts"], own_volume], "capAdd": ["X"], "privileged": False}
    assert added(merged, ours, scene()) == []


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ({"HostConfig": {"Privileged": True}}, "privileged"),
        ({"HostConfig": {"NetworkMode": "host"}}, "host_namespace"),
        ({"HostConfig": {"PidMode": "container:x"}}, "host_namespace"),
        ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/sda"}]}}, "device"),
        ({"HostConfig": {"PortBindings": {"80/tcp": []}}}, "published_port"),
        ({"Mounts": [{"Type": "bind", "Source": "/etc"}]}, "host_mount"),
    ],
)
def test_w6_the_container_itself_has_the_last_word(seen: dict[str, Any], code: str) -> None:
    found = running(seen, binds=["/tools"], scene=scene())
    assert [finding.code for finding in found] == [code]
    assert running(seen, binds=["/tools"], scene=scene(code)) == []


def test_an_ordinary_container_has_nothing_to_be_refused_for() -> None:
    seen = {
        "HostConfig": {"NetworkMode": "default", "IpcMode": "private", "CgroupnsMode": "host"},
        "Mounts": [{"Type": "bind", "Source": "/tools"}, {"Type": "volume", "Source": "/v"}],
    }
    assert running(seen, binds=["/tools"], scene=scene()) == []


WORDS = st.one_of(
    st.sampled_from(sorted(ARGUMENT_CODES)),
    st.sampled_from(["-v", "-it", "-pe", "--env", "-e", "--", "-", "--net", "--mount", "-vx:/y"]),
    st.text(string.ascii_letters + string.digits + "-=/:.", max_size=12),
)


@given(st.lists(WORDS, max_size=8))
def test_no_list_of_arguments_brings_a_forbidden_one_through(words: list[str]) -> None:
    kept = parse(review({"runArgs": words}).raw["runArgs"])
    for argument in kept:
        assert argument.judge() == "" or argument.name == "--mount"
    assert parse(render(kept)) == kept, "written once, it is read the same way again"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
PROPERTIES = st.sampled_from(
    [
        "mounts",
        "runArgs",
        "build",
        "features",
        "privileged",
        "capAdd",
        "initializeCommand",
        "workspaceMount",
        "image",
        "dockerComposeFile",
        "dockerFile",
        "context",
        "containerEnv",
    ]
)


@given(st.dictionaries(PROPERTIES, JSON, max_size=5))
def test_any_json_is_judged_or_refused_and_never_breaks_the_judge(raw: dict[str, Any]) -> None:
    with suppress(NodeError):
        seen = review(raw)
        assert not seen.raw.keys() & {"initializeCommand"} or not seen.raw["initializeCommand"]
        assert not seen.raw.get("privileged")


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_mount_of_another_folder_comes_through(source: str, target: str) -> None:
    for mount in (
        f"type=bind,source=/{source},target={target}",
        {"type": "bind", "source": f"/{source}", "target": target},
    ):
        for kept in review({"mounts": [mount]}).raw["mounts"]:
            parts = mount_parts(kept)
            assert is_inside(CHECKOUT / parts["source"]) or parts["type"] != "bind"


def test_short_flags_are_taken_apart_as_docker_does() -> None:
    assert parse(["-itv", "/a:/b", "-eA=b", "-m=1g"]) == [
        Argument(name="--interactive"),
        Argument(name="--tty"),
        Argument(name="--volume", value="/a:/b"),
        Argument(name="--env", value="A=b"),
        Argument(name="--memory", value="1g"),
    ]


def test_every_code_is_described() -> None:
    assert set(ARGUMENT_CODES.values()) <= set(CODES)
    for one, other in itertools.combinations(CODES.values(), 2):
        assert one != other


def test_the_reference_describes_every_code() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/devcontainers.md").read_text()
    described = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert set(CODES) <= described


def test_the_reference_describes_every_error_of_the_workspace() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs/reference/devcontainers.md").read_text()
    rooms = "bringup builder checkout checks collect compose configuration devcontainer docker git"
    for room in f"{rooms} mirror policy publish publisher workspaces".split():
        text = (root / f"agent/{room}.py").read_text()
        for code in re.findall(r'NodeError\(\s*"([a-z_]+)"', text):
            assert f"`{code}`" in page, f"agent/{room}.py: {code}"
