"""A code host's repository, a mirror of it, and checkouts in which somebody works."""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.checkout import Checkout, Start
from agent.files import Layout
from agent.keep.site import Site
from agent.mirror import Mirror
from agent.process import Identity
from agent.trees import Trees

URL = "https://forge.example/acme/web.git"
ME = Identity(uid=os.geteuid(), gid=os.getegid())
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@localhost",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@localhost",
    "GIT_EDITOR": "true",
    "LC_ALL": "C.UTF-8",
}


def git(folder: Path, *argv: str, check: bool = True) -> str:
    """Run git in a folder as somebody in a workspace would."""
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-c", "protocol.file.allow=always", *argv],
        cwd=folder,
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


@dataclass(frozen=True, slots=True)
class Forge:
    """The repository and where nodes lie."""

    root: Path

    @property
    def origin(self) -> Path:
        return self.root / "origin.git"

    def layout(self, node: str = "node") -> Layout:
        return Layout(state=self.root / node)

    def set_up(self, contents: Mapping[str, str]) -> None:
        git(self.root, "init", "--quiet", "--bare", "-b", "main", str(self.origin))
        self.commit("main", contents)

    def commit(self, branch: str, contents: Mapping[str, str]) -> str:
        """Commit on a branch of the code host."""
        clone = self.root / "somebody"
        shutil.rmtree(clone, ignore_errors=True)
        git(self.root, "clone", "--quiet", str(self.origin), str(clone))
        git(clone, "checkout", "--quiet", "-B", branch, f"origin/{branch}", check=False)
        git(clone, "checkout", "--quiet", "-B", branch)
        for name, text in contents.items():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text(text)
        git(clone, "add", "--all", "--force")
        git(clone, "commit", "--quiet", "-m", "theirs")
        git(clone, "push", "--quiet", "origin", branch)
        return git(clone, "rev-parse", "HEAD").strip()

    async def check_out(
        self, workspace: str, *, node: str = "node", has_overlay: bool = False
    ) -> Site:
        """Make a fresh checkout on a node, with the mirror as the code host is now."""
        layout = self.layout(node)
        mirror = Mirror(layout, "acme/web", URL)
        if not mirror.path.exists():
            git(self.root, "init", "--quiet", "--bare", str(mirror.path))
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        git(mirror.path, "fetch", "--quiet", "--prune", str(self.origin), *refs)
        heads = await mirror.heads()
        commit = heads.commits["main"]
        checkout = Checkout(home=layout.state / "ws" / workspace, name="web")
        await checkout.make(
            Trees(layout, mirror),
            Start(branch="samovar/t-1", commit=commit, base="main", base_commit=commit),
            ME,
            heads=heads,
            lenders=(mirror.path,),
            settings={"core.repositoryformatversion": "0", "core.filemode": "true"},
            has_overlay=has_overlay,
        )
        site = Site(
            workspace=workspace,
            url=URL,
            base="main",
            base_commit=commit,
            tree=checkout.target,
            agent=checkout.home / "run/claude",
            terminals=checkout.home / "terminals",
            mirror=mirror.path,
            owner=ME,
            settings={},
        )
        lend(site)
        layout.scratch.mkdir(exist_ok=True)
        return site


def lend(site: Site) -> None:
    """Let git on this host find the borrowed objects, as it would in the container."""
    alternates = site.tree / ".git/objects/info/alternates"
    if alternates.exists():
        alternates.write_text(f"{site.mirror}/objects\n")


def picture(folder: Path) -> dict[str, object]:
    """Return all that can be seen of a folder but times and the way git stores objects."""
    seen: dict[str, object] = {}
    groups: dict[int, str] = {}
    for top, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(top, name)
            short = str(path.relative_to(folder))
            if short.startswith(".git/objects/"):
                continue
            seen[short] = _look(path, short, groups)
    return seen


def _look(path: Path, short: str, groups: dict[int, str]) -> object:
    about = path.lstat()
    mode = stat.S_IMODE(about.st_mode)
    if path.is_symlink():
        return "symlink", str(path.readlink())
    if path.is_dir():
        return "folder", mode
    if not path.is_file():
        return "special", mode
    twin = groups.setdefault(about.st_ino, short) if about.st_nlink > 1 else ""
    return "file", mode, hashlib.sha256(path.read_bytes()).hexdigest(), twin


def git_state(tree: Path) -> dict[str, str]:
    """Return what git says about a working tree."""
    return {
        "status": git(tree, "status", "--porcelain=v2", "--branch", "--ignored", "-z"),
        "staged": git(tree, "diff", "--cached", "--binary"),
        "unstaged": git(tree, "diff", "--binary"),
        "refs": git(tree, "for-each-ref"),
        "stash": git(tree, "stash", "list", "-p"),
        "log": git(tree, "log", "--all", "--reflog", "--format=%H %s"),
        "broken": git(tree, "fsck", "--no-dangling", check=False),
    }
