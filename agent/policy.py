"""What a repository's devcontainer may not do to the node, decided without side effects.

Three looks, because a configuration has three authors. `review` looks at the repository's own file
and takes out what it may not do: our override replaces that file, so it is gone. `added` looks at
the merged result for what features and images add: that cannot be taken out, so it is refused.
`running` looks at the container itself: whatever the first two did not foresee.
A project may permit each finding by its code.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from agent.errors import NodeError
from agent.run_args import Argument, parse, render

CODES: Mapping[str, str] = {
    "initialize_command": "runs a command on the node",
    "privileged": "wants a privileged container",
    "host_mount": "mounts a folder of the node",
    "docker_socket": "wants the node's Docker socket",
    "host_namespace": "shares a namespace with the node",
    "capability": "wants more Linux capabilities",
    "security_option": "turns a protection of the container off",
    "device": "wants a device of the node",
    "published_port": "opens a port of the node",
    "shared_volume": "uses a volume that other workspaces could use",
    "outside_path": "reads a path outside of the repository",
    "run_argument": "gives Docker an argument that is not permitted",
    "build_option": "gives the build an option that is not permitted",
}
"""What can be found, as a clause after its place. `CreateWorkspace.allow` names these."""

LOCAL_VARIABLE = re.compile(r"\$\{(?:localEnv|env)(?::([^}:]*))?(?::([^}]*))?\}")
HARMLESS_MOUNTS = frozenset({"tmpfs"})
BUILD_OPTIONS = re.compile(r"--(target|platform|pull|progress|no-cache|shm-size)(=.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the configuration may not do.

    Attributes:
        code: One of `CODES`.
        where: The property it is about.
        detail: The value, shortened.
    """

    code: str
    where: str
    detail: str = ""

    @property
    def sentence(self) -> str:
        """Say it for the card."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.where}{detail} {CODES[self.code]}; it was left out."


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a configuration is judged by.

    Attributes:
        checkout: Folder of the repository on the node.
        folder: Folder of the configuration file, which relative paths of a build start from.
        allow: Codes that the project permits.
        volumes: Prefix of this workspace's volume names.
        labels: Labels that the devcontainer id is made from.
        is_inside: Says whether a path is in the checkout when every link is followed.
        is_closed: Says whether that also holds for everything below a folder.
    """

    checkout: PurePath
    folder: PurePath
    allow: frozenset[str] = frozenset()
    volumes: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_inside: Callable[[PurePath], bool]
    is_closed: Callable[[PurePath], bool]

    def has(self, path: str, *, start: PurePath) -> bool:
        """Say whether a path of the configuration stays in the checkout."""
        return "\0" not in path and "${" not in path and self.is_inside(start / path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The repository's own file without what it may not do."""

    raw: dict[str, Any]
    stripped: tuple[Finding, ...]


def refuse(findings: Sequence[Finding]) -> None:
    """Raise if there are findings.

    Raises:
        NodeError: `policy_refused`, naming all of them.
    """
    if findings:
        named = "; ".join(
            f"{f.where}{f' ({f.detail})' if f.detail else ''} {CODES[f.code]} [{f.code}]"
            for f in findings[:5]
        )
        raise NodeError(
            "policy_refused",
            f"The devcontainer is refused: {named}. Change it, or let an admin of the project "
            "permit what stands in brackets.",
        )


def review(raw: Mapping[str, Any], scene: Scene) -> Review:
    """Return the repository's file as it may be used, and what was taken out of it."""
    return _Review(raw, scene).result()


class _Review:
    def __init__(self, raw: Mapping[str, Any], scene: Scene) -> None:
        self._raw: dict[str, Any] = _settle(dict(raw), scene)
        self._scene = scene
        self._stripped: list[Finding] = []

    def result(self) -> Review:
        for name, code in (
            ("initializeCommand", "initialize_command"),
            ("privileged", "privileged"),
            ("capAdd", "capability"),
            ("securityOpt", "security_option"),
            ("appPort", "published_port"),
        ):
            if self._raw.get(name) and self._is_found(code, name, short(self._raw[name])):
                del self._raw[name]
        for name, kind in SHAPES.items():
            if name in self._raw and not isinstance(self._raw[name], kind):
                del self._raw[name]
        if str(self._raw.get("image", "")).startswith("-"):
            refuse([Finding(code="run_argument", where="image", detail=short(self._raw["image"]))])
        self._mounts()
        self._workspace_mount()
        self._run_args()
        self._build()
        self._compose()
        self._features()
        return Review(raw=self._raw, stripped=tuple(self._stripped))

    def _is_found(self, code: str, where: str, detail: str = "") -> bool:
        """Note a finding; False if the project permits it."""
        if code in self._scene.allow:
            return False
        self._stripped.append(Finding(code=code, where=where, detail=detail))
        return True

    def _mounts(self) -> None:
        if "mounts" in self._raw:
            kept = [self._mount("mounts", mount) for mount in self._raw["mounts"]]
            self._raw["mounts"] = [mount for mount in kept if mount is not None]

    def _mount(self, where: str, mount: object) -> str | None:
        """Return a mount as it may be, in the string form; None if it may not."""
        parts = mount_parts(mount)
        source, kind = parts.get("source", ""), parts.get("type", "volume")
        detail = short(source or mount)
        if any(c in value for value in (*parts, *parts.values()) for c in '"\n\r'):
            permitted = False
            self._stripped.append(Finding(code="host_mount", where=where, detail=detail))
        elif kind == "volume" and "volume-opt" in parts:
            permitted = not self._is_found("host_mount", where, detail)
        elif kind == "volume" and "/" not in source:
            parts["source"] = f"{self._scene.volumes}{source}" if source else ""
            permitted = True
        elif kind == "bind" or "/" in source:
            permitted = self._bind(where, source)
        else:
            permitted = kind in HARMLESS_MOUNTS or not self._is_found("host_mount", where, detail)
        given = ((name, value) for name, value in parts.items() if value or name == "readonly")
        return ",".join(f"{n}={v}" if v else n for n, v in given) if permitted else None

    def _bind(self, where: str, source: str) -> bool:
        if self._scene.has(source, start=self._scene.checkout):
            return True
        code = "docker_socket" if "docker.sock" in source else "host_mount"
        return not self._is_found(code, where, short(source))

    def _workspace_mount(self) -> None:
        mount = self._raw.get("workspaceMount")
        if mount is None:
            return
        source = mount_parts(mount).get("source", str(self._scene.checkout))
        if not self._scene.has(source, start=self._scene.checkout):
            self._stripped.append(
                Finding(code="host_mount", where="workspaceMount", detail=short(source))
            )

    def _run_args(self) -> None:
        if "runArgs" in self._raw:
            kept = [self._run_arg(argument) for argument in parse(self._raw["runArgs"])]
            self._raw["runArgs"] = render([argument for argument in kept if argument])

    def _run_arg(self, argument: Argument) -> Argument | None:
        where, value = f"runArgs {argument.name}", argument.value
        if argument.name in {"--volume", "--mount"}:
            text = self._mount(where, _volume(value) if argument.name == "--volume" else value)
            return Argument(name="--mount", value=text) if text else None
        if argument.name == "--env-file" and not self._scene.has(value, start=self._scene.checkout):
            return None if self._is_found("outside_path", where, short(value)) else argument
        code = argument.judge()
        return None if code and self._is_found(code, where, short(value)) else argument

    def _build(self) -> None:
        build = self._raw.get("build")
        for holder, prefix in ((self._raw, ""), (build, "build.")):
            if not isinstance(holder, dict):
                continue
            for name in ("dockerFile", "dockerfile", "context"):
                path = holder.get(name)
                if path is not None and not self._scene.has(str(path), start=self._scene.folder):
                    # Without its build the file says nothing: no permission makes this work.
                    refuse([Finding(code="outside_path", where=prefix + name, detail=short(path))])
        if isinstance(build, dict) and "options" in build:
            build["options"] = [o for o in _texts(build["options"]) if self._build_option(o)]
        if isinstance(build, dict) and "cacheFrom" in build:
            images = _texts(build["cacheFrom"])
            build["cacheFrom"] = [i for i in images if "=" not in i and not i.startswith("-")]

    def _build_option(self, option: str) -> bool:
        if BUILD_OPTIONS.fullmatch(option):
            return True
        return not self._is_found("build_option", "build.options", short(option))

    def _compose(self) -> None:
        for path in _texts(self._raw.get("dockerComposeFile")):
            if not self._scene.has(path, start=self._scene.folder):
                where = "dockerComposeFile"
                refuse([Finding(code="outside_path", where=where, detail=short(path))])

    def _features(self) -> None:
        for name in self._raw.get("features") or ():
            is_path = str(name).startswith((".", "/"))
            path = self._scene.folder / str(name)
            if is_path and not (self._scene.is_inside(path) and self._scene.is_closed(path)):
                refuse([Finding(code="outside_path", where="features", detail=short(name))])


SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "mounts": list,
    "runArgs": list,
    "build": dict,
    "features": dict,
    "containerEnv": dict,
    "remoteEnv": dict,
    "workspaceMount": str,
    "workspaceFolder": str,
    "remoteUser": str,
    "containerUser": str,
    "image": str,
    "dockerFile": str,
    "context": str,
    "dockerComposeFile": (str, list),
    "service": str,
    "runServices": list,
}
"""Types by the devcontainer reference; a property of another type is left out."""


def added(merged: Mapping[str, Any], ours: Mapping[str, Any], scene: Scene) -> Sequence[Finding]:
    """Return what features and image add to our override that they may not."""
    found = []
    if merged.get("privileged") and not ours.get("privileged"):
        found.append(Finding(code="privileged", where="a feature or the image"))
    for name, code in (("capAdd", "capability"), ("securityOpt", "security_option")):
        found += [
            Finding(code=code, where="a feature or the image", detail=short(value))
            for value in _texts(merged.get(name))
            if value not in _texts(ours.get(name))
        ]
    known = {_same(mount) for mount in ours.get("mounts", ())}
    for mount in merged.get("mounts") or ():
        if _same(mount) not in known:
            found += _added_mount(mount, scene)
    return [finding for finding in found if finding.code not in scene.allow]


def _added_mount(mount: object, scene: Scene) -> Iterable[Finding]:
    parts = mount_parts(mount)
    source, kind = parts.get("source", ""), parts.get("type", "volume")
    where = "a mount of a feature or the image"
    if kind == "volume" and "/" not in source and "volume-opt" not in parts:
        own = ("${devcontainerId}", devcontainer_id(scene.labels), scene.volumes)
        if source and not any(part in source for part in own):
            yield Finding(code="shared_volume", where=where, detail=short(source))
    elif kind not in HARMLESS_MOUNTS:
        code = "docker_socket" if "docker.sock" in source else "host_mount"
        yield Finding(code=code, where=where, detail=short(source))


def running(seen: Mapping[str, Any], *, binds: Iterable[str], scene: Scene) -> Sequence[Finding]:
    """Return what a container has that it may not, by Docker's own description `seen`.

    `binds` are the folders and files of this host that we mounted ourselves.
    """
    host = seen.get("HostConfig", {})
    ours = set(binds)
    where = "the container"
    found = []
    if host.get("Privileged"):
        found.append(Finding(code="privileged", where=where))
    for name, code in (
        ("CapAdd", "capability"),
        ("SecurityOpt", "security_option"),
        ("Devices", "device"),
        ("DeviceRequests", "device"),
        ("DeviceCgroupRules", "device"),
        ("PortBindings", "published_port"),
        ("VolumesFrom", "host_mount"),
    ):
        if host.get(name):
            found.append(Finding(code=code, where=where, detail=short(host[name])))
    for name in ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode"):
        mode = str(host.get(name) or "")
        if (mode == "host" and name != "CgroupnsMode") or mode.startswith("container:"):
            found.append(Finding(code="host_namespace", where=where, detail=f"{name} {mode}"))
    for mount in seen.get("Mounts") or ():
        source = str(mount.get("Source"))
        is_ours = source in ours or scene.has(source, start=scene.checkout)
        if mount.get("Type") == "bind" and not is_ours:
            code = "docker_socket" if "docker.sock" in source else "host_mount"
            found.append(Finding(code=code, where=where, detail=short(source)))
    return [finding for finding in found if finding.code not in scene.allow]


def mount_parts(mount: object) -> dict[str, str]:
    """Return the parts of a mount in either form, under their first names."""
    if isinstance(mount, Mapping):
        pairs = [(str(name), str(value)) for name, value in mount.items()]
    else:
        pairs = [
            (name.strip(), value)
            for name, _, value in (p.partition("=") for p in str(mount).split(","))
        ]
    names = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
    return {names.get(name.lower(), name.lower()): value for name, value in pairs}


def devcontainer_id(labels: Mapping[str, str]) -> str:
    """Return `${devcontainerId}` as the devcontainer reference computes it from labels."""
    text = json.dumps(dict(sorted(labels.items())), separators=(",", ":"), ensure_ascii=False)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest())
    digits = ""
    while number:
        digits = "0123456789abcdefghijklmnopqrstuv"[number % 32] + digits
        number //= 32
    return digits.rjust(52, "0")


def _settle(value: Any, scene: Scene) -> Any:
    """Fill in variables of this host ourselves: its environment is empty for a repository."""
    if isinstance(value, str):
        text = LOCAL_VARIABLE.sub(lambda found: found[2] or "", value)
        text = text.replace("${localWorkspaceFolder}", str(scene.checkout))
        text = text.replace("${localWorkspaceFolderBasename}", scene.checkout.name)
        return text.replace("${devcontainerId}", devcontainer_id(scene.labels))
    if isinstance(value, dict):
        return {_settle(name, scene): _settle(item, scene) for name, item in value.items()}
    if isinstance(value, list):
        return [_settle(item, scene) for item in value]
    return value


def _volume(value: str) -> str:
    """Return the value of `--volume` in the words of `--mount`."""
    source, _, rest = value.partition(":")
    if not rest:
        return f"type=volume,target={source}"
    target, _, mode = rest.partition(":")
    kind = "bind" if "/" in source or source in {".", ".."} else "volume"
    readonly = ",readonly" if "ro" in mode.split(",") else ""
    return f"type={kind},source={source},target={target}{readonly}"


def _same(mount: object) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(mount_parts(mount).items()))


def _texts(value: object) -> Sequence[str]:
    if value is None:
        return ()
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def short(value: object) -> str:
    """Return a value of a stranger as it can be shown."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "".join(c if c.isprintable() else "?" for c in text)[:80]
