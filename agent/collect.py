"""Take the work out of a workspace.

Everything that reads or writes the working tree runs inside the container as the remote user;
nothing in its `.git` is trusted here. The commits leave as a bundle on standard output, so this
host opens no path that the container could have replaced.
"""

# ruff: noqa: ASYNC240  calls for one file on the node's own disk
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import disk
from agent.docker import CommandOverdue, Engine, Executed
from agent.errors import NodeError
from agent.record import Record
from agent.secrets_guard import FILE_BYTES_MAX, PATTERNS, is_secret_name
from core.wire import Collect

STEP_S = 15 * 60
CHUNK = 100
BROKEN = 64
GIT = (
    "git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c gc.auto=0 -c maintenance.auto=0"
    " -c commit.gpgSign=false -c core.quotePath=false -c submodule.recurse=false"
    " -c advice.addEmbeddedRepo=false"
)
"""Hooks could refuse our commit or wait for somebody, so they are off even in there."""

TIDY = f"""
[ -d .git ] && [ ! -L .git ] && git rev-parse --git-dir >/dev/null || exit {BROKEN}
rm -f .git/index.lock .git/HEAD.lock
[ -e .git/rebase-merge ] && echo "rebase" && {{ git rebase --quit || exit {BROKEN}; }}
[ -e .git/rebase-apply ] && echo "rebase" && {{ rm -rf .git/rebase-apply; }}
[ -e .git/CHERRY_PICK_HEAD ] && echo "cherry-pick" && git cherry-pick --quit
[ -e .git/REVERT_HEAD ] && echo "revert" && git revert --quit
[ -e .git/MERGE_HEAD ] && echo "merge"
tip=$(git rev-parse -q --verify "refs/heads/$1^{{commit}}")
if [ -n "$tip" ] && [ ! -e .git/MERGE_HEAD ] && [ "$(git rev-parse -q HEAD)" != "$tip" ] \\
    && git merge-base --is-ancestor HEAD "$tip"; then
  {GIT} checkout --quiet "$1" -- || echo "elsewhere"
fi
exit 0
"""
CHANGED = f"""
{GIT} ls-files -z --others --exclude-standard
{GIT} diff --name-only --no-renames --no-ext-diff --ignore-submodules=all -z HEAD 2>/dev/null
exit 0
"""
LARGE = f"""
find . -path ./.git -prune -o -type f -size +{FILE_BYTES_MAX // 1024}k -print0 2>/dev/null
exit 0
"""
LEAKS = "-z --no-textconv --untracked --exclude-standard --text --name-only -E"
COMMIT = f"""
if {GIT} diff --cached --quiet --no-ext-diff HEAD 2>/dev/null && [ ! -e .git/MERGE_HEAD ]
then exit 0; fi
{GIT} -c "user.name=$1" -c "user.email=$2" commit --quiet --no-verify --no-edit --message="$3" \\
    --author="$1 <$2>"
"""
FACTS = """
git rev-parse -q --verify HEAD^{commit} || git rev-parse -q --verify "refs/heads/$1^{commit}"
echo "seen $(git rev-parse -q --verify "refs/remotes/origin/$1")"
"""
BUNDLE = f"""
refs="HEAD --branches"
git rev-parse -q --verify refs/stash >/dev/null && refs="$refs refs/stash"
{GIT} bundle create --quiet - $refs --not "$1"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What the container says about its repository.

    Attributes:
        head: Commit that is checked out; a claim until it is found in the bundle or the mirror.
        seen: What the workspace last saw of the branch on the code host, empty for nothing.
        left: Sentences about what was not committed, or not as one would expect.
        kept: Paths of the files that were not committed.
        has_bundle: Whether there is more than what the code host has.
    """

    head: str
    seen: str
    left: tuple[str, ...]
    kept: tuple[str, ...]
    has_bundle: bool


class Collector:
    """Runs the steps in one workspace's container."""

    def __init__(self, engine: Engine, record: Record, home: Path) -> None:
        self._engine = engine
        self._home = home
        self._record = record

    async def take(self, order: Collect, bundle: Path) -> Taken:
        """Commit what is left and write all commits that the code host has not to `bundle`.

        Raises:
            NodeError: `workspace_git_broken`, or `collect_failed`.
        """
        left = await self._tidy()
        kept = await self._commit(order, left)
        head, seen = await self._facts()
        has_bundle = await self._bundle(bundle)
        return Taken(
            head=head, seen=seen, left=tuple(left), kept=tuple(kept), has_bundle=has_bundle
        )

    async def archive(self, target: Path, paths: Sequence[str] = (".",)) -> None:
        """Write files of the working tree to a tar archive on this host."""
        with target.open("wb") as file:
            target.chmod(0o600)
            await self._sh('tar -cf - -- "$@"', *paths, sink=file)

    async def _tidy(self) -> list[str]:
        done = await self._sh(TIDY, self._record.order.branch)
        if done.code == BROKEN:
            raise NodeError("workspace_git_broken", done.complaint[-200:])
        left = []
        for word in done.text.splitlines():
            if word == "elsewhere":
                left.append(
                    f"{self._record.order.branch} has more commits than what is checked out; "
                    "they are in the kept copy only."
                )
            elif word in {"merge", "rebase", "cherry-pick", "revert"}:
                left.append(f"A {word} was not finished; the files were committed as they are.")
        return left

    async def _commit(self, order: Collect, left: list[str]) -> list[str]:
        """Commit all but secrets and huge files; return what was left out."""
        changed = set(_split(await self._sh(CHANGED)))
        huge = sorted(changed & {path.removeprefix("./") for path in _split(await self._sh(LARGE))})
        secret = sorted(await self._secrets(changed) - set(huge))
        left += [f"{_shown(path)} is larger than 100 MB and was not committed." for path in huge]
        left += [f"{_shown(path)} looks like a secret and was not committed." for path in secret]
        await self._stage(huge)
        without = [*huge, *secret]
        for start in range(0, len(without), CHUNK):
            some = map(_literal, without[start : start + CHUNK])
            await self._must(f'{GIT} reset --quiet -- "$@"', *some)
        await self._must(COMMIT, order.author, order.email, order.message or "Work in progress")
        return without

    async def _stage(self, huge: Sequence[str]) -> None:
        without = [f":(exclude,top,literal){path}" for path in huge[:CHUNK]]
        done = await self._sh(f'{GIT} add --all --ignore-errors -- . "$@"', *without)
        if done.code and disk.is_full(done.complaint):
            raise disk.full(self._home)

    async def _secrets(self, changed: set[str]) -> set[str]:
        patterns = " ".join(f"-e '{pattern}'" for pattern in PATTERNS)
        found = await self._sh(f"{GIT} grep {LEAKS} {patterns}")
        return (set(_split(found)) & changed) | {path for path in changed if is_secret_name(path)}

    async def _facts(self) -> tuple[str, str]:
        done = await self._must(FACTS, self._record.order.branch)
        found = re.search(r"^(?P<head>[0-9a-f]{40,64})\nseen ?(?P<seen>[0-9a-f]*)$", done.text)
        if found is None:
            raise NodeError("workspace_git_broken", "the repository has no commit")
        return found["head"], found["seen"]

    async def _bundle(self, target: Path) -> bool:
        with target.open("wb") as file:
            target.chmod(0o600)
            done = await self._sh(BUNDLE, self._record.base_commit, sink=file)
        if done.code == 0:
            return True
        target.unlink()
        if "empty bundle" in done.complaint:
            return False
        raise self._refused(done)

    async def _must(self, script: str, *arguments: str) -> Executed:
        done = await self._sh(script, *arguments)
        if done.code:
            raise self._refused(done)
        return done

    def _refused(self, done: Executed) -> NodeError:
        if disk.is_full(done.complaint):
            return disk.full(self._home)
        return NodeError(
            "collect_failed",
            f"git in the workspace failed: {done.complaint[-300:]}; look into its terminal.",
        )

    async def _sh(self, script: str, *arguments: str, sink: object = None) -> Executed:
        environment: Mapping[str, str] = {
            **self._record.env,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_EDITOR": "true",
            "GIT_SEQUENCE_EDITOR": "true",
            "LC_ALL": "C.UTF-8",
        }
        write = getattr(sink, "write", None)
        try:
            return await self._engine.run(
                self._record.container,
                ["sh", "-c", script, "sh", *arguments],
                user=self._record.user,
                folder=self._record.root,
                environment=environment,
                time_limit_s=STEP_S,
                sink=write,
            )
        except CommandOverdue as error:
            raise NodeError(
                "collect_failed", "git in the workspace did not end; stop what runs there."
            ) from error


def _split(done: Executed) -> list[str]:
    return [part for part in done.out.decode(errors="surrogateescape").split("\0") if part]


def _literal(path: str) -> str:
    return f":(top,literal){path}"


def _shown(path: str) -> str:
    """Return a path that is safe to show: names are data of strangers."""
    return "".join(c if c.isprintable() else "?" for c in path)[:200]
