"""Docker Compose files of a devcontainer: what they may not do to the node.

We do not read YAML: Compose itself resolves files, includes and extensions to one JSON document.
Nothing can be taken out of somebody else's files, so every finding refuses. A key of a service
that is not known here is a finding too: a newer Compose may have keys that reach the node, as
`provider` does, which runs a program there.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import NodeError
from agent.policy import Finding, Scene, short
from agent.process import Overdue, run

CONFIG_S = 60
COMMANDS: Sequence[Sequence[str]] = (("docker", "compose"), ("docker-compose",))
"""As the devcontainer CLI looks for it: the plug-in, then the program of its own."""

UNREAD = ("--no-interpolate", "--no-env-resolution")
"""Together they leave the names of environment files in the result (measured with 2.40)."""
INCLUDE = re.compile(r"""include["']?\s*:|\?\s*["']?include|\\[xuU]""")
"""`include` can read variables from any file and leaves no trace, so it is judged by its name;
escapes could hide that name."""

HARMLESS = frozenset(
    {
        *("annotations", "attach", "command", "container_name", "cpu_count", "cpu_percent", "cpus"),
        *("depends_on", "deploy", "dns", "dns_opt", "dns_search", "domainname", "entrypoint"),
        *("environment", "expose", "extra_hosts", "group_add", "healthcheck", "hostname", "image"),
        *(
            "init",
            "labels",
            "links",
            "mac_address",
            "mem_limit",
            "mem_reservation",
            "memswap_limit",
        ),
        *("networks", "platform", "profiles", "pull_policy", "read_only", "restart", "scale"),
        *("shm_size", "stdin_open", "stop_grace_period", "stop_signal", "tmpfs", "tty", "ulimits"),
        *("user", "working_dir", "pids_limit", "logging", "secrets", "configs", "storage_opt"),
    }
)
CODES: Mapping[str, str] = {
    "cap_add": "capability",
    "cgroup_parent": "host_namespace",
    "device_cgroup_rules": "device",
    "devices": "device",
    "gpus": "device",
    "ports": "published_port",
    "privileged": "privileged",
    "runtime": "security_option",
    "security_opt": "security_option",
    "sysctls": "security_option",
    "use_api_socket": "docker_socket",
    "volumes_from": "host_mount",
}
NAMESPACES = ("cgroup", "ipc", "network_mode", "pid", "userns_mode", "uts")
BUILD = frozenset(
    {"args", "context", "dockerfile", "dockerfile_inline", "labels", "target", "tags"}
)


def project(workspace: str) -> str:
    """Return the name under which Compose keeps a workspace's containers."""
    return f"samovar-{workspace}"


async def find(environment: Mapping[str, str]) -> Sequence[str] | None:
    """Return the command that runs Compose on this node, None if there is none."""
    for command in COMMANDS:
        try:
            done = await run([*command, "version"], environment=environment, time_limit_s=CONFIG_S)
        except (Overdue, OSError):
            continue
        if done.code == 0:
            return command
    return None


async def resolve(
    command: Sequence[str], paths: Iterable[Path], environment: Mapping[str, str], *options: str
) -> Mapping[str, Any]:
    """Return the resolved configuration; with `UNREAD` as options, before files are read into it.

    Raises:
        NodeError: `compose_invalid`.
    """
    files = [f"--file={path}" for path in paths]
    try:
        argv = [*command, *files, "config", "--format=json", "--no-consistency", *options]
        done = await run(argv, environment=environment, time_limit_s=CONFIG_S)
        value = json.loads(done.out) if done.code == 0 else None
    except (Overdue, ValueError):
        value = None
    if not isinstance(value, dict):
        raise NodeError(
            "compose_invalid",
            "Compose cannot read the devcontainer's files; run `docker compose config` on them.",
        )
    return value


def written(texts: Iterable[str], scene: Scene) -> Sequence[Finding]:
    """Return what must not even be given to Compose, by the text of the files."""
    matches = (INCLUDE.search(text) for text in texts)
    found = [
        Finding(code="outside_path", where="include", detail=short(match[0]))
        for match in matches
        if match
    ]
    for folder in (scene.folder, scene.checkout):
        found += _path(".env", folder / ".env", scene)
    return [finding for finding in found if finding.code not in scene.allow]


def unread(config: Mapping[str, Any], scene: Scene) -> Sequence[Finding]:
    """Return which environment files Compose would read that it may not, by `UNREAD`."""
    found: list[Finding] = []
    for name, service in (config.get("services") or {}).items():
        for entry in service.get("env_file") or ():
            path = str(entry.get("path") if isinstance(entry, dict) else entry)
            found += _path(f"service {name} env_file", path.replace("$", "${"), scene)
    return [finding for finding in found if finding.code not in scene.allow]


def findings(config: Mapping[str, Any], scene: Scene) -> Sequence[Finding]:
    """Return what a resolved configuration may not do."""
    found: list[Finding] = []
    for name, service in (config.get("services") or {}).items():
        found += _service(f"service {name}", service, scene)
    for kind in ("configs", "secrets"):
        for name, value in (config.get(kind) or {}).items():
            found += _path(f"{kind} {name}", value.get("file"), scene)
    for name, value in (config.get("volumes") or {}).items():
        if (value or {}).get("external"):
            found.append(Finding(code="shared_volume", where=f"volume {name}"))
        elif (value or {}).get("driver_opts") or (value or {}).get("driver", "local") != "local":
            found.append(Finding(code="host_mount", where=f"volume {name}"))
    for name, value in (config.get("networks") or {}).items():
        if (value or {}).get("external") or (value or {}).get("driver", "bridge") != "bridge":
            found.append(Finding(code="host_namespace", where=f"network {name}"))
    return [finding for finding in found if finding.code not in scene.allow]


def _service(where: str, service: Mapping[str, Any], scene: Scene) -> Iterable[Finding]:
    for key, value in service.items():
        if value in (None, False, [], {}) or key in HARMLESS:
            continue
        detail = short(value)
        if key == "volumes":
            yield from _volumes(where, value, scene)
        elif key == "build":
            yield from _build(where, value, scene)
        elif key in NAMESPACES:
            if str(value) not in {"none", "private", "shareable", "bridge", "default"} and not str(
                value
            ).startswith("service:"):
                yield Finding(code="host_namespace", where=f"{where} {key}", detail=detail)
        else:
            yield Finding(
                code=CODES.get(key, "run_argument"), where=f"{where} {key}", detail=detail
            )


def _volumes(where: str, volumes: Iterable[Mapping[str, Any]], scene: Scene) -> Iterable[Finding]:
    for volume in volumes:
        source = str(volume.get("source", ""))
        if volume.get("type") in {"volume", "tmpfs"}:
            continue
        if volume.get("type") != "bind" or not scene.has(source, start=scene.checkout):
            code = "docker_socket" if "docker.sock" in source else "host_mount"
            yield Finding(code=code, where=f"{where} volumes", detail=short(source))


def _build(where: str, build: Mapping[str, Any], scene: Scene) -> Iterable[Finding]:
    context = str(build.get("context", "."))
    yield from _path(f"{where} build.context", context, scene)
    if "dockerfile" in build:
        path = str(Path(context) / str(build["dockerfile"]))
        yield from _path(f"{where} build.dockerfile", path, scene)
    for key, value in build.items():
        if key not in BUILD and value not in (None, False, [], {}):
            yield Finding(code="build_option", where=f"{where} build.{key}", detail=short(value))


def _path(where: str, path: object, scene: Scene) -> Iterable[Finding]:
    if path is not None and not scene.has(str(path), start=scene.folder):
        yield Finding(code="outside_path", where=where, detail=short(path))
