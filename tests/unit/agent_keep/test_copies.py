"""Rescue copies of real git repositories: what was there is there again."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import overlay
from agent.errors import NodeError
from agent.keep.capture import Copy, capture
from agent.keep.restore import restore
from agent.keep.site import Site
from agent.process import Identity
from tests.fakes.kept import Forge, git, git_state, lend, picture
from tests.fakes.lacking import lacking

BASE = {
    "a.txt": "a\n" * 50,
    "b.txt": "b\n" * 50,
    "src/main.py": "print()\n",
    ".gitignore": "*.log\n/node_modules/\n.env\ndata/\n!data/keep\n",
}


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    forge = Forge(tmp_path)
    forge.set_up(BASE)
    return forge


async def copy_of(forge: Forge, site: Site) -> Copy:
    layout = forge.layout()
    return await capture(site, scratch=layout.scratch, target=layout.rescue)


async def put_back(forge: Forge, copy: Copy, site: Site) -> list[str]:
    said = await restore(copy.path, site, sha256=copy.sha256, scratch=forge.layout().scratch)
    lend(site)
    return list(said.sentences)


async def moved(forge: Forge, site: Site, *, node: str = "other") -> tuple[Site, list[str]]:
    """Copy a workspace and put it back on a node that never saw it."""
    copy = await copy_of(forge, site)
    fresh = await forge.check_out("w-2", node=node)
    forge.layout(node).scratch.mkdir(exist_ok=True)
    return fresh, await put_back(forge, copy, fresh)


def work(tree: Path) -> None:
    """Leave every kind of git state behind."""
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "first")
    (tree / "a.txt").write_text("stashed\n")
    git(tree, "stash", "push", "--quiet", "--message", "for later")
    git(tree, "checkout", "--quiet", "-b", "side")
    (tree / "side.txt").write_text("side\n")
    git(tree, "add", "side.txt")
    git(tree, "commit", "--quiet", "-m", "on the side")
    git(tree, "commit", "--quiet", "--amend", "-m", "amended, so only the log has the other one")
    git(tree, "checkout", "--quiet", "samovar/t-1")
    git(tree, "tag", "mine")
    (tree / "src/main.py").write_text("staged\n")
    git(tree, "add", "src/main.py")
    (tree / "src/main.py").write_text("staged, and changed again\n")
    (tree / "b.txt").unlink()
    (tree / "new.txt").write_text("untracked\n")
    (tree / ".env").write_text("TOKEN=1\n")


async def test_n8_all_git_state_comes_back(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    work(site.tree)
    before, seen = git_state(site.tree), picture(site.tree)
    fresh, said = await moved(forge, site)
    assert picture(fresh.tree) == seen
    assert git_state(fresh.tree) == before
    assert before["broken"] == ""
    assert "left" not in " ".join(said)
    assert said == ["Put back: 2 commits, 1 stash, 2 changed files, 2 untracked files."]


async def test_it_is_said_that_nothing_had_been_changed(forge: Forge) -> None:
    _, said = await moved(forge, await forge.check_out("w-1"))
    assert said == ["Nothing had been changed in the workspace."]


async def test_links_and_a_repository_in_the_repository_are_counted_as_git_does(
    forge: Forge,
) -> None:
    site = await forge.check_out("w-1")
    (site.tree / "link").symlink_to("a.txt")
    git(site.tree, "add", "link")
    inner = f"160000,{'ab' * 20},inner"
    git(site.tree, "update-index", "--add", "--cacheinfo", inner)
    git(site.tree, "commit", "--quiet", "-m", "both")
    (site.tree / "inner").mkdir()
    (site.tree / "inner/theirs.txt").touch()
    _, said = await moved(forge, site)
    assert said == ["Put back: 1 commit."]


async def test_a_copy_names_what_was_checked_out(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    git(site.tree, "commit", "--quiet", "--allow-empty", "-m", "mine")
    head = git(site.tree, "rev-parse", "HEAD").strip()
    copy = await copy_of(forge, site)
    assert (copy.branch, copy.head) == ("samovar/t-1", head)
    git(site.tree, "checkout", "--quiet", "--detach")
    copy = await copy_of(forge, site)
    assert (copy.branch, copy.head) == ("", head)
    git(site.tree, "checkout", "--quiet", "--orphan", "fresh")
    copy = await copy_of(forge, site)
    assert (copy.branch, copy.head) == ("fresh", "")


async def test_two_copies_of_the_same_content_are_the_same_file(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    work(site.tree)
    assert await copy_of(forge, site) == await copy_of(forge, site)


@pytest.fixture
async def overlaid(forge: Forge) -> AsyncGenerator[tuple[Site, Site]]:
    """Two workspaces on overlays, on two nodes."""
    (forge.root / "node/tmp").mkdir(parents=True)
    if not await overlay.works(forge.root / "node/tmp"):
        lacking("an overlay, which this host may not mount")
    forge.commit("main", {"large.bin": "large" * 100_000})
    sites = [
        await forge.check_out("w-1", has_overlay=True),
        await forge.check_out("w-2", node="other", has_overlay=True),
    ]
    try:
        yield sites[0], sites[1]
    finally:
        for site in sites:
            await overlay.unmount(site.tree)


async def test_an_overlay_comes_back_and_keeps_its_lower_files(
    forge: Forge, overlaid: tuple[Site, Site]
) -> None:
    site, fresh = overlaid
    assert site.tree.is_mount()
    work(site.tree)
    shutil.rmtree(site.tree / "src")
    (site.tree / "src").mkdir()
    (site.tree / "src/other.py").touch()
    copy = await copy_of(forge, site)
    await put_back(forge, copy, fresh)
    assert picture(fresh.tree) == picture(site.tree)
    assert git_state(fresh.tree) == git_state(site.tree)
    upper = fresh.tree.parents[1] / "layer/upper"
    assert (upper / "src/other.py").exists()
    assert not (upper / "large.bin").exists(), "a file was copied up that is as in the base"


@pytest.mark.parametrize("act", ["merge", "rebase", "cherry-pick"])
async def test_a_conflict_that_is_being_resolved_comes_back(forge: Forge, act: str) -> None:
    site = await forge.check_out("w-1")
    tree = site.tree
    git(tree, "checkout", "--quiet", "-b", "theirs")
    (tree / "a.txt").write_text("theirs\n")
    git(tree, "commit", "--quiet", "-am", "theirs")
    git(tree, "checkout", "--quiet", "samovar/t-1")
    (tree / "a.txt").write_text("ours\n")
    git(tree, "commit", "--quiet", "-am", "ours")
    git(tree, act, "theirs", check=False)
    before = git_state(tree)
    assert "u UU" in before["status"]
    fresh, _ = await moved(forge, site)
    assert git_state(fresh.tree) == before
    git(fresh.tree, act, "--abort")
    assert (fresh.tree / "a.txt").read_text() == "ours\n"


async def test_work_on_a_branch_that_the_code_host_deletes_meanwhile_comes_back(
    forge: Forge,
) -> None:
    theirs = forge.commit("feature", {"feature.txt": "borrowed\n", "x/y.txt": "y\n"})
    site = await forge.check_out("w-1")
    git(site.tree, "merge", "--quiet", "--no-edit", "--no-ff", theirs)
    git(site.tree, "reset", "--quiet", "--soft", "HEAD~1")
    git(site.tree, "rm", "--quiet", "-f", "x/y.txt")
    git(site.tree, "commit", "--quiet", "-m", "a tree of borrowed blobs")
    git(site.tree, "checkout", "--quiet", "--detach", theirs)
    git(site.tree, "commit", "--quiet", "--allow-empty", "-m", "on theirs")
    before = git_state(site.tree)
    git(forge.origin, "update-ref", "-d", "refs/heads/feature")
    fresh, _ = await moved(forge, site)
    after = git_state(fresh.tree)
    assert (after["status"], after["broken"]) == (before["status"], "")
    assert git(fresh.tree, "log", "--format=%s", "HEAD").startswith("on theirs\ntheirs\n")


async def test_a_staged_file_that_only_the_mirror_stores_comes_back(forge: Forge) -> None:
    forge.commit("feature", {"feature.txt": "borrowed\n"})
    site = await forge.check_out("w-1")
    (site.tree / "mine.txt").write_text("borrowed\n")
    git(site.tree, "add", "mine.txt")
    (site.tree / "mine.txt").unlink()
    git(forge.origin, "update-ref", "-d", "refs/heads/feature")
    fresh, _ = await moved(forge, site)
    assert git(fresh.tree, "show", ":mine.txt") == "borrowed\n"


async def test_what_the_code_host_forgot_is_named_and_what_is_left_is_usable(
    forge: Forge,
) -> None:
    forge.commit("feature", {"feature.txt": "1\n"})
    site = await forge.check_out("w-1")
    work(site.tree)
    git(forge.origin, "update-ref", "-d", "refs/heads/feature")
    fresh, said = await moved(forge, site)
    assert "feature" not in git(fresh.tree, "for-each-ref")
    assert git(fresh.tree, "fsck", "--no-dangling") == ""
    assert not [line for line in said if "could not" in line]


async def test_a_base_that_was_rewritten_costs_files_that_are_named(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    work(site.tree)
    copy = await copy_of(forge, site)
    git(forge.root / "somebody", "checkout", "--quiet", "--orphan", "anew")
    git(forge.root / "somebody", "rm", "--quiet", "-rf", "--cached", ".")
    git(forge.root / "somebody", "commit", "--quiet", "--allow-empty", "-m", "anew")
    git(forge.root / "somebody", "push", "--quiet", "--force", "origin", "anew:main")
    fresh = await forge.check_out("w-2", node="other")
    said = await put_back(forge, copy, fresh)
    assert (fresh.tree / "new.txt").read_text() == "untracked\n"
    assert any(line.startswith("a.txt could not be restored") for line in said)
    assert any("miss" in line or "refs/heads" in line for line in said)


async def test_a_file_as_in_the_base_is_not_stored(forge: Forge) -> None:
    forge.commit("main", {"large.bin": os.urandom(300_000).hex()})
    site = await forge.check_out("w-1")
    (site.tree / "a.txt").write_text("changed\n")
    copy = await copy_of(forge, site)
    assert copy.size_bytes < 100_000
    fresh = await forge.check_out("w-2", node="other")
    inode = (fresh.tree / "large.bin").stat().st_ino
    await put_back(forge, copy, fresh)
    assert picture(fresh.tree) == picture(site.tree)
    assert (fresh.tree / "large.bin").stat().st_ino == inode, "it was right and was written again"


async def test_conversations_and_terminals_come_back(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    (site.agent / "projects/x").mkdir(parents=True)
    (site.agent / "projects/x/1.jsonl").write_text("{}\n")
    site.terminals.mkdir()
    (site.terminals / "1.log").write_bytes(b"\x1b[0m")
    fresh, said = await moved(forge, site)
    assert said == ["Put back: 1 conversation."]
    assert picture(fresh.agent) == picture(site.agent)
    assert picture(fresh.terminals) == picture(site.terminals)


async def test_all_belongs_to_the_user_but_what_terminals_wrote(forge: Forge) -> None:
    if os.geteuid():
        lacking("root, who alone gives files away")
    site = await forge.check_out("w-1")
    (site.tree / "new").mkdir()
    (site.tree / "new/link").symlink_to("nowhere")
    (site.tree / "new/run").touch(mode=0o4755)
    site.terminals.mkdir()
    (site.terminals / "1.out").touch()
    copy = await copy_of(forge, site)
    fresh = await forge.check_out("w-2", node="other")
    await put_back(forge, copy, replace(fresh, owner=Identity(uid=4321, gid=1234)))
    for path in (fresh.tree, *fresh.tree.rglob("*")):
        if path.name != "alternates":
            assert (path.lstat().st_uid, path.lstat().st_gid) == (4321, 1234), path
    assert (fresh.tree / "new/run").stat().st_mode & 0o7777 == (
        site.tree / "new/run"
    ).stat().st_mode & 0o7777
    assert (fresh.terminals / "1.out").stat().st_uid == os.geteuid()
    assert not fresh.agent.exists(), "a folder was made that is not in the copy"


async def test_what_can_be_made_again_and_what_is_huge_is_left_out_and_listed(
    forge: Forge,
) -> None:
    site = await forge.check_out("w-1")
    tree = site.tree
    for name in ("node_modules/a/i.js", "data/x", "data/sub/y", "data/keep", "lib/__pycache__/z"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    with (tree / "huge.log").open("wb") as file:
        file.truncate(17 << 20)
    with (tree / "huge.txt").open("wb") as file:
        file.truncate(17 << 20)
    (tree / "small.log").write_text("small")
    (tree / "tmp.log").mkdir()
    (tree / "tmp.log/pyvenv.cfg").touch()
    fresh, said = await moved(forge, site)
    back = picture(fresh.tree)
    assert {"data/x", "data/sub/y", "data/keep", "small.log", "huge.txt"} <= set(back)
    assert {"lib/__pycache__/z"} <= set(back), "nobody ignores it here"
    assert not {"node_modules", "tmp.log", "huge.log"} & set(back)
    left = "\n".join(said)
    assert "node_modules is ignored by git and can be made again." in left
    assert "huge.log is ignored by git and larger than 16 MB." in left
    assert (fresh.tree / "huge.txt").stat().st_blocks < 1000, "a hole became zeros"


async def test_a_tracked_file_in_an_ignored_build_tree_is_kept(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    (site.tree / "node_modules/mine").mkdir(parents=True)
    (site.tree / "node_modules/mine/patched.js").write_text("1")
    git(site.tree, "add", "--force", "node_modules/mine/patched.js")
    (site.tree / "node_modules/mine/patched.js").write_text("2")
    before = git_state(site.tree)
    fresh, _ = await moved(forge, site)
    assert git_state(fresh.tree) == before


async def test_sockets_pipes_and_devices_are_listed(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    os.mkfifo(site.tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.open(site.tree, os.O_PATH)
        listening.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
        copy = await copy_of(forge, site)
    assert sorted(copy.left) == [
        "pipe is a socket, a pipe or a device.",
        "socket is a socket, a pipe or a device.",
    ]


async def test_a_stale_lock_does_not_come_back(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    (site.tree / ".git/index.lock").touch()
    fresh, said = await moved(forge, site)
    git(fresh.tree, "add", "--all")
    assert any("index.lock" in line for line in said)


async def test_a_broken_repository_is_kept_as_it_is(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    (site.tree / "new.txt").write_text("mine\n")
    git(site.tree, "add", ".")
    git(site.tree, "commit", "--quiet", "-m", "mine")
    blob = git(site.tree, "rev-parse", "HEAD:new.txt").strip()
    (site.tree / f".git/objects/{blob[:2]}/{blob[2:]}").unlink()
    copy = await copy_of(forge, site)
    assert any("git misses objects" in line for line in copy.left)
    fresh = await forge.check_out("w-2", node="other")
    said = await put_back(forge, copy, fresh)
    assert (fresh.tree / "new.txt").read_text() == "mine\n"
    assert any("miss parts" in line for line in said)


async def test_a_workspace_without_a_repository_is_kept(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    subprocess.run(["rm", "-rf", str(site.tree / ".git")], check=True)
    (site.tree / ".git").symlink_to("/etc")
    fresh, _ = await moved(forge, site)
    assert picture(fresh.tree) == picture(site.tree)


async def test_settings_of_the_node_win_over_those_in_the_copy(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    git(site.tree, "config", "remote.origin.pushurl", "http://127.0.0.1:1/old")
    git(site.tree, "config", "user.name", "Somebody")
    copy = await copy_of(forge, site)
    fresh = await forge.check_out("w-2", node="other")
    here = replace(fresh, settings={"remote.origin.pushurl": "http://127.0.0.1:2/new"})
    await put_back(forge, copy, here)
    assert git(fresh.tree, "config", "--get-all", "remote.origin.pushurl").split() == [
        "http://127.0.0.1:2/new"
    ]
    assert git(fresh.tree, "config", "user.name") == "Somebody\n"


async def test_a_restore_that_was_cut_is_finished_by_the_next(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    work(site.tree)
    copy = await copy_of(forge, site)
    fresh = await forge.check_out("w-2", node="other")
    await put_back(forge, copy, fresh)
    (fresh.tree / "half").write_text("of another try")
    (fresh.tree / "a.txt").unlink()
    await put_back(forge, copy, fresh)
    assert picture(fresh.tree) == picture(site.tree)


async def test_a_copy_fits_its_repository_by_another_name_and_no_other_one(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    work(site.tree)
    copy = await copy_of(forge, site)
    fresh = await forge.check_out("w-2", node="other")
    renamed = replace(fresh, url="https://forge.example/acme/api.git")
    await put_back(forge, copy, renamed)
    assert picture(fresh.tree) == picture(site.tree)
    git(forge.root, "init", "--quiet", "--bare", str(forge.root / "api.git"))
    with pytest.raises(NodeError, match=r"api.git does not have the commit") as refused:
        await put_back(forge, copy, replace(renamed, mirror=forge.root / "api.git"))
    assert refused.value.code == "copy_refused"


async def test_terminals_come_back_into_their_own_workspace_and_are_not_promised_to_another(
    forge: Forge,
) -> None:
    site = await forge.check_out("w-1")
    (site.terminals / "t-1").mkdir(parents=True)
    order = {"order": {"workspace": "w-1", "terminal": "t-1"}}
    (site.terminals / "t-1/terminal.json").write_text(json.dumps(order))
    copy = await copy_of(forge, site)
    assert await put_back(forge, copy, site) == ["Put back: 1 terminal's history."]
    fresh = await forge.check_out("w-2")
    assert await put_back(forge, copy, fresh) == [
        "Nothing had been changed in the workspace.",
        "Terminals' histories did not come back: they belong to the workspace of the copy.",
    ]


async def test_a_workspace_that_changes_all_the_time_has_no_copy(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.keep import capture as module

    site = await forge.check_out("w-1")
    write = module._write
    count = 0

    def change(*arguments: object) -> object:
        nonlocal count
        count += 1
        taken = write(*arguments)  # type: ignore[arg-type]
        (site.tree / "a.txt").write_text(f"{count}")
        return taken

    monkeypatch.setattr(module, "_write", change)
    with pytest.raises(NodeError) as busy:
        await copy_of(forge, site)
    assert (busy.value.code, count) == ("workspace_busy", 3)
    assert not list(forge.layout().rescue.glob("*"))
    assert not list(forge.layout().scratch.glob("*"))


async def test_g4_a_repository_in_an_ignored_folder_is_kept_with_its_commits(forge: Forge) -> None:
    site = await forge.check_out("w-1")
    (site.tree / ".gitignore").write_text("vendor/\nnode_modules/\n")
    (site.tree / "vendor/acme/node_modules/x").mkdir(parents=True)
    (site.tree / "node_modules/x").mkdir(parents=True)
    clone = site.tree / "vendor/acme/lib"
    git(site.tree, "init", "--quiet", str(clone))
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "pushed nowhere")
    fresh, said = await moved(forge, site)
    assert "pushed nowhere" in git(fresh.tree / "vendor/acme/lib", "log", "--format=%s")
    assert [line for line in said if "made again" in line] == [
        "node_modules is ignored by git and can be made again.",
        "vendor/acme/node_modules is ignored by git and can be made again.",
    ]
