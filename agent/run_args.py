"""Arguments of `docker run` that a devcontainer.json may give, taken apart and judged.

Written from docker-run(1) of Docker 28. A flag that is not known here is not permitted: a newer
Docker may have flags that reach the host.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SWITCHES = frozenset(
    [
        "--detach",
        "--disable-content-trust",
        "--help",
        "--init",
        "--interactive",
        "--no-healthcheck",
        "--oom-kill-disable",
        "--privileged",
        "--publish-all",
        "--quiet",
        "--read-only",
        "--rm",
        "--sig-proxy",
        "--tty",
        "--use-api-socket",
    ]
)
"""Flags without a value."""
SHORT: Mapping[str, str] = {
    "a": "--attach",
    "c": "--cpu-shares",
    "d": "--detach",
    "e": "--env",
    "h": "--hostname",
    "i": "--interactive",
    "l": "--label",
    "m": "--memory",
    "P": "--publish-all",
    "p": "--publish",
    "q": "--quiet",
    "t": "--tty",
    "u": "--user",
    "v": "--volume",
    "w": "--workdir",
}
SAME: Mapping[str, str] = {"--net": "--network", "--net-alias": "--network-alias",
                           "--dns-opt": "--dns-option"}  # fmt: skip
PERMITTED = frozenset(
    [
        "--add-host",
        "--dns",
        "--dns-option",
        "--dns-search",
        "--domainname",
        "--env",
        "--env-file",
        "--expose",
        "--group-add",
        "--health-cmd",
        "--health-interval",
        "--health-retries",
        "--health-start-period",
        "--health-timeout",
        "--hostname",
        "--init",
        "--interactive",
        "--mac-address",
        "--network-alias",
        "--no-healthcheck",
        "--platform",
        "--pull",
        "--quiet",
        "--read-only",
        "--shm-size",
        "--stop-signal",
        "--stop-timeout",
        "--tmpfs",
        "--tty",
        "--ulimit",
        "--user",
        "--workdir",
    ]
)
CODES: Mapping[str, str] = {
    "--cap-add": "capability",
    "--cgroup-parent": "host_namespace",
    "--cgroupns": "host_namespace",
    "--device": "device",
    "--device-cgroup-rule": "device",
    "--gpus": "device",
    "--ipc": "host_namespace",
    "--network": "host_namespace",
    "--pid": "host_namespace",
    "--privileged": "privileged",
    "--publish": "published_port",
    "--publish-all": "published_port",
    "--runtime": "security_option",
    "--security-opt": "security_option",
    "--use-api-socket": "docker_socket",
    "--userns": "host_namespace",
    "--uts": "host_namespace",
    "--volume-driver": "host_mount",
    "--volumes-from": "host_mount",
}
HARMLESS: Mapping[str, frozenset[str]] = {
    "--network": frozenset({"bridge", "default", "none"}),
    "--ipc": frozenset({"", "none", "private", "shareable"}),
    "--cgroupns": frozenset({"private"}),
    "--security-opt": frozenset({"no-new-privileges", "no-new-privileges=true",
                                 "no-new-privileges:true"}),
}  # fmt: skip
OURS = ("samovar.", "devcontainer.")
"""Prefixes of labels by which containers are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One flag by its long name, with its value if it takes one."""

    name: str
    value: str = ""

    def judge(self) -> str:
        """Return the finding's code if this may not be given, an empty string if it may."""
        if self.value in HARMLESS.get(self.name, ()):
            return ""
        if self.name == "--label":
            return "run_argument" if self.value.startswith(OURS) else ""
        return "" if self.name in PERMITTED else CODES.get(self.name, "run_argument")


def parse(words: Iterable[object]) -> Sequence[Argument]:
    """Take arguments apart as Docker would; what is no flag becomes one without a name."""
    rest = [str(word) for word in words]
    found: list[Argument] = []
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and word != "--":
            name, equals, value = word.partition("=")
            name = SAME.get(name, name)
            if not equals and name not in SWITCHES:
                value = rest.pop(0) if rest else ""
            found.append(Argument(name=name, value=value))
        elif word.startswith("-") and len(word) > 1 and word != "--":
            found += _short(word[1:], rest)
        else:
            found.append(Argument(name="", value=word))
    return found


def _short(letters: str, rest: list[str]) -> Iterable[Argument]:
    """Take `-itv/a:/b` apart; `rest` loses its first word if that is the last letter's value."""
    while letters:
        name, letters = SHORT.get(letters[0], f"-{letters[0]}"), letters[1:]
        if name in SWITCHES:
            yield Argument(name=name)
            continue
        value = letters.removeprefix("=") or (rest.pop(0) if rest else "")
        yield Argument(name=name, value=value)
        return


def render(arguments: Iterable[Argument]) -> list[str]:
    """Return arguments in the one form that cannot be read in two ways."""
    return [
        a.name if a.name in SWITCHES and not a.value else f"{a.name}={a.value}" for a in arguments
    ]
