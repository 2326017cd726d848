"""Collect, check and push on a real Docker Engine, against agents that do odd things."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import NodeError
from agent.override import WORKSPACE_LABEL
from core.wire import FileChange, WorkspaceReady
from tests.fakes.githost import git
from tests.fakes.node_world import BRANCH, REPOSITORY, NodeWorld, base_image, node_world

pytestmark = pytest.mark.docker

FILES = {
    ".devcontainer.json": f'{{"image": "{base_image()}", "remoteUser": "dev"}}',
    ".gitignore": "ignored/\n",
    "a.txt": "one\ntwo\n",
}
CONFLICT = f"""
git checkout -qb other; echo 1 > x.txt; git add -A; git commit -qm 1
git checkout -q {BRANCH}; echo 2 > x.txt; git add -A; git commit -qm 2
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with node_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ready(world: NodeWorld) -> WorkspaceReady:
    return await world.create(FILES)


async def test_p12_what_is_left_is_committed_and_measured_outside(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(
        ready,
        "echo three >> a.txt; mkdir ignored; echo x > ignored/x; printf '\\0\\1' > b.bin;"
        " git commit -qam 'By the agent'; echo new > n.txt",
    )
    got = await world.workspaces.collect(world.collecting(ready))
    assert (got.commits, got.remote, got.left) == (2, "", ())
    assert got.base_commit == ready.base_commit
    assert set(got.files) == {
        FileChange(path="a.txt", added=1, removed=0),
        FileChange(path="n.txt", added=1, removed=0),
        FileChange(path="b.bin", added=0, removed=0),
    }
    bundle = world.settings.state / "rescue" / got.bundle
    assert got.head in git(world.settings.state, "bundle", "list-heads", str(bundle))
    said = await world.sh(ready, "git log -1 --format='%an <%ae> %s'; git status --porcelain")
    assert said.text == "Ana <ana@example.com> Finish the work"
    assert await world.workspaces.collect(world.collecting(ready)) == got


async def test_p12_an_agent_that_did_nothing_and_one_that_pushed_by_itself(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    got = await world.workspaces.collect(world.collecting(ready))
    assert (got.head, got.commits, got.bundle) == (ready.base_commit, 0, "")
    commit = world.forge.commit(REPOSITORY, {"by.txt": "itself"}, branch=BRANCH)
    await world.sh(ready, f"git fetch -q && git reset -q --hard origin/{BRANCH}")
    got = await world.workspaces.collect(world.collecting(ready))
    assert (got.head, got.remote, got.commits) == (commit, commit, 1)
    pushed = await world.workspaces.push(world.pushing(ready, commit))
    assert pushed.commit == commit
    assert world.forge.pushes == []


async def test_secrets_and_huge_files_are_left_out_and_said_and_kept(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    place = await world.workspaces.place(ready.workspace)
    await world.sh(
        ready,
        "echo K=1 > .env; echo K= > .env.example; mkdir d; echo '-----BEGIN RSA PRIVATE KEY-----'"
        ' > d/notes; truncate -s 101M big.iso; echo fine > fine.txt; echo "t $T" > leak.txt;'
        " ssh=d/id_ed25519; echo k > $ssh; git add -A; touch 'odd\nname.pem'",
        environment={**place.env, "T": place.token},
    )
    got = await world.workspaces.collect(world.collecting(ready))
    assert {change.path for change in got.files} == {".env.example", "fine.txt"}
    assert "big.iso is larger than 100 MB and was not committed." in got.left
    assert "odd?name.pem looks like a secret and was not committed." in got.left
    assert len(got.left) == 6
    assert (await world.sh(ready, "ls -A | wc -l; cat .env")).text.split()[-1] == "K=1"
    kept = list((world.settings.state / "rescue").glob("*-left.tar"))
    assert len(kept) == 1
    assert place.token not in str(got)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo x > x.txt; git commit -q --allow-empty -m c; git checkout -q --detach", ""),
        (f"echo x > x.txt; git checkout -q main; git branch -q -D {BRANCH}", ""),
        ("echo x > x.txt; git branch -m elsewhere; git add -A", ""),
        ("git checkout -q --orphan fresh; echo x > x.txt", ""),
        (
            f"{CONFLICT} git merge other",
            "A merge was not finished",
        ),
        (
            f"{CONFLICT} git rebase other",
            "A rebase was not finished",
        ),
    ],
    ids=["detached", "deleted", "renamed", "orphan", "merge", "rebase"],
)
async def test_g4_whatever_the_agent_did_to_its_branches_the_work_comes_out(
    world: NodeWorld, ready: WorkspaceReady, script: str, said: str
) -> None:
    await world.sh(ready, script)
    got = await world.workspaces.collect(world.collecting(ready))
    assert "x.txt" in {change.path for change in got.files}
    assert said in " ".join(got.left)
    pushed = await world.workspaces.push(world.pushing(ready, got.head))
    assert world.forge.head(REPOSITORY, BRANCH) == pushed.commit == got.head


async def test_work_left_on_the_branch_is_found_after_a_switch_away(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(
        ready,
        "echo x > x.txt; git add -A; git commit -qm x; git checkout -q -b main origin/main;"
        " echo y > y.txt",
    )
    got = await world.workspaces.collect(world.collecting(ready))
    assert {change.path for change in got.files} == {"x.txt", "y.txt"}


async def test_c10_a_hostile_repository_runs_nothing_on_the_node(
    world: NodeWorld, ready: WorkspaceReady, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    evil = f"sh -c 'touch {mark}; touch /tmp/inside'"
    await world.sh(
        ready,
        f"""
        git config core.fsmonitor "{evil}"; git config core.sshCommand "{evil}"
        git config filter.x.clean "{evil}"; git config filter.x.smudge "{evil}"
        git config diff.external "{evil}"; git config core.pager "{evil}"
        git config url."ext::{evil}".insteadOf http; git config uploadpack.packObjectsHook "{evil}"
        git config core.gitProxy "{evil}"; git config core.hooksPath hooks
        mkdir -p hooks; for h in pre-commit post-commit reference-transaction pre-push
        do printf '#!/bin/sh\\ntouch {mark}\\nexit 1\\n' > hooks/$h; chmod +x hooks/$h; done
        echo '* filter=x diff=x' > .gitattributes; echo work > work.txt
        ln -s /etc/passwd link; ln -s ../../.. up
        """,
    )
    got = await world.workspaces.collect(world.collecting(ready))
    assert {"work.txt", "link", "hooks/pre-commit"} <= {change.path for change in got.files}
    await world.workspaces.push(world.pushing(ready, got.head))
    checked = await world.workspaces.check(world.checking(ready, got.head, "cat work.txt"))
    assert not mark.exists()
    assert checked.results[0].exit_code == 0


@pytest.mark.parametrize(
    "script", ["rm -rf .git", "mv .git /tmp/g; ln -s /tmp/g .git", "rm .git/HEAD"]
)
async def test_g4_a_broken_repository_is_said_and_its_files_are_kept(
    world: NodeWorld, ready: WorkspaceReady, script: str
) -> None:
    await world.sh(ready, f"echo precious > work.txt; {script}")
    with pytest.raises(NodeError) as broken:
        await world.workspaces.collect(world.collecting(ready))
    assert broken.value.code == "workspace_git_broken"
    archive = world.settings.state / "rescue" / f"{ready.workspace}-T-1.1.tar"
    assert b"precious" in archive.read_bytes()
    assert archive.name in broken.value.text


async def test_g4_work_is_collected_from_stopped_and_lost_containers_and_a_cut_forge(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(ready, "echo x > x.txt; touch .git/index.lock")
    await world.engine.stop(ready.container, grace_s=0)
    first = await world.workspaces.collect(world.collecting(ready))
    assert first.commits == 1
    await world.sh(ready, "echo y > y.txt")
    await world.engine.remove(ready.container)
    world.forge.answer_with = 503
    with pytest.raises(NodeError) as cut:
        await world.workspaces.collect(world.collecting(ready))
    assert cut.value.code == "forge_unreachable"
    assert len(list((world.settings.state / "rescue").glob("*.bundle"))) == 2
    world.forge.answer_with = None
    assert (await world.workspaces.collect(world.collecting(ready))).commits == 2


async def test_checks_run_at_the_commit_in_a_fresh_container_without_tokens(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(ready, "echo new > n.txt; touch /tmp/dirt; mkdir ignored; touch ignored/x")
    got = await world.workspaces.collect(world.collecting(ready))
    place = await world.workspaces.place(ready.workspace)
    checked = await world.workspaces.check(
        world.checking(
            ready,
            got.head,
            "cat n.txt; id -un; pwd; git rev-parse HEAD; git status --porcelain",
            "ls /tmp/dirt ignored /run/samovar; env; cat .git/config",
            "seq 1 100000; exit 3",
            "no-such-command",
        )
    )
    assert checked.commit == got.head
    first, second, third, fourth = checked.results
    assert first.tail.splitlines() == ["new", "dev", "/workspaces/web", got.head]
    assert place.token not in second.tail
    assert second.tail.count("No such file") == 3
    assert (third.exit_code, len(third.tail.splitlines())) == (3, 60)
    assert third.tail.endswith("\n100000")
    assert len(third.tail) <= 8 * 1024
    assert fourth.exit_code == 127
    overdue = await world.workspaces.check(
        world.checking(ready, got.head, "sleep 600", "true", time_limit_s=3)
    )
    assert [one.exit_code for one in overdue.results[-2:]] == [-1, -1], "one limit for all"
    assert list(await world.engine.find({WORKSPACE_LABEL: ready.workspace})) == [ready.container]
    assert list((world.settings.state / "ws" / ready.workspace / "checks").glob("*/*")) == []


async def test_t5_only_the_branch_of_the_workspace_is_pushed_and_only_once(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(ready, "echo x > x.txt")
    got = await world.workspaces.collect(world.collecting(ready))
    for branch in ("main", "samovar/T-1-other", "refs/heads/main", f"{BRANCH}:main", "--mirror"):
        with pytest.raises(NodeError) as refused:
            await world.workspaces.push(world.pushing(ready, got.head, branch))
        assert refused.value.code == "push_refused"
    with pytest.raises(NodeError):
        await world.workspaces.push(world.pushing(ready, "f" * 40))
    for _ in range(2):
        await world.workspaces.push(world.pushing(ready, got.head))
    assert world.forge.head(REPOSITORY, BRANCH) == got.head
    assert world.forge.head(REPOSITORY, "main") == ready.base_commit
    assert world.forge.pushes == ["writer"]


async def test_commits_of_others_on_the_branch_are_never_overwritten(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(ready, "echo x > x.txt")
    got = await world.workspaces.collect(world.collecting(ready))
    await world.workspaces.push(world.pushing(ready, got.head))
    await world.sh(ready, "git commit -q --amend -m amended")
    amended = await world.workspaces.collect(world.collecting(ready))
    assert amended.remote == got.head
    await world.workspaces.push(world.pushing(ready, amended.head))
    theirs = world.forge.commit(REPOSITORY, {"human.txt": "hi"}, branch=BRANCH)
    await world.sh(ready, "git commit -q --amend -m again")
    again = await world.workspaces.collect(world.collecting(ready))
    with pytest.raises(NodeError) as moved:
        await world.workspaces.push(world.pushing(ready, again.head))
    assert moved.value.code == "branch_moved"
    assert world.forge.head(REPOSITORY, BRANCH) == theirs


async def test_g5_a_commit_with_the_workspace_token_is_not_pushed(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    place = await world.workspaces.place(ready.workspace)
    script = "echo $T > t.txt; git add -A; git commit -qm t; git rm -q t.txt; git commit -qm u"
    await world.sh(ready, script, environment={**place.env, "T": place.token})
    got = await world.workspaces.collect(world.collecting(ready))
    with pytest.raises(NodeError) as refused:
        await world.workspaces.push(world.pushing(ready, got.head))
    assert refused.value.code == "secret_in_commits"
    assert place.token not in refused.value.text
    assert world.forge.pushes == []


async def test_a_follow_up_continues_the_branch_of_the_code_host(
    world: NodeWorld, ready: WorkspaceReady
) -> None:
    await world.sh(ready, "echo x > x.txt")
    got = await world.workspaces.collect(world.collecting(ready))
    await world.workspaces.push(world.pushing(ready, got.head))
    await world.workspaces.delete(ready.workspace)
    world.forge.commit(REPOSITORY, {"main.txt": "moved on"})
    second = await world.workspaces.create(world.order())
    assert second.base_commit == ready.base_commit
    assert (await world.sh(second, "git rev-parse HEAD")).text == got.head
    await world.sh(second, "echo y > y.txt; git fetch -q; git merge -q origin/main")
    more = await world.workspaces.collect(world.collecting(second, "T-1.2"))
    assert {change.path for change in more.files} == {"x.txt", "y.txt"}
    assert more.base_commit == world.forge.head(REPOSITORY, "main")
    await world.workspaces.push(world.pushing(second, more.head))
