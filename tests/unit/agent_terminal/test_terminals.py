"""Real shells behind the real holder, viewed as people view them."""

import errno
import json
import random
import shutil
from pathlib import Path

import pytest

from agent import files
from agent.errors import NodeError
from agent.spool import Spool
from core.ids import TerminalId, WorkspaceId
from core.viewing import (
    CLOSE_AWAY,
    CLOSE_MISSING,
    CLOSE_UNREADABLE,
    Beat,
    Exited,
    Fit,
    Input,
    Size,
    encode,
)
from core.wire import CloseTerminal
from tests.fakes.local_lines import LocalLines
from tests.fakes.serving import until
from tests.fakes.terminal_node import TERMINAL, WORKSPACE, Life, an_order, living
from tests.fakes.viewer import Watching, watching


async def test_a_shell_runs_what_is_typed_and_shows_it(node: Life) -> None:
    await node.terminals.open(an_order("sh"))
    async with watching(node.view()) as viewer:
        await viewer.say(Input(b"echo $((40 + 2)) $TERM\n"))
        await viewer.sees("42 xterm-256color")
        assert viewer.order[:3] == ["Resized", "Paint", "Viewers"]


async def test_the_exit_code_comes_after_all_output_and_is_reported_once(node: Life) -> None:
    await node.terminals.open(an_order("sh", "-c", "seq 1 20000; exit 7"))
    async with watching(node.view()) as viewer:
        await until(lambda: viewer.exit)
        assert viewer.exit == Exited(7)
        assert viewer.order[-1] == "Exited"
        assert viewer.text.rstrip().endswith("20000")
    await until(node.reports)
    (report,) = [json.loads(body) for body in await node.reports()]
    assert (report["terminal"], report["code"], report["text"]) == (TERMINAL, 7, "")
    async with watching(node.view()) as late:
        await until(lambda: late.exit)
        assert late.order == ["Resized", "Paint", "Viewers", "Exited"]
        assert b"20000" in late.paints[0].data


async def test_a_shell_that_ends_while_the_disk_is_full_ends_nothing_else(
    node: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json, is_full = files.write_json, [False]

    def written(path: Path, value: object) -> None:
        if is_full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(path, value)

    monkeypatch.setattr(files, "write_json", written)
    other = TerminalId("t-00000002")
    await node.terminals.open(an_order("cat"))
    await node.terminals.open(an_order("sh", terminal=other))
    is_full[0] = True
    async with watching(node.view(terminal=other)) as viewer, watching(node.view()) as cat:
        await viewer.say(Input(b"exit 7\n"))
        await cat.say(Input(b"still here\n"))
        await cat.sees("still here")
        assert await node.reports() == []
        is_full[0] = False
        await until(node.reports)
        await until(lambda: viewer.exit)
        assert viewer.exit == Exited(7)


async def test_w9_a_node_agent_that_is_just_starting_asks_viewers_to_come_back(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path, LocalLines(), Spool(tmp_path / "spool.db"), tmp_path)
    async with watching(life.view()) as viewer:
        await until(lambda: viewer.closed)
        assert viewer.closed == (CLOSE_AWAY, "The node is just starting.")


async def test_w7_a_terminal_of_another_workspace_in_ones_own_folder_is_not_adopted(
    tmp_path: Path, lines: LocalLines
) -> None:
    """As in a workspace that was put back from a copy of another one."""
    async with living(tmp_path, lines, lines.run_dir) as life:
        await life.terminals.open(an_order("cat"))
        stolen = life.layout.workspace(WorkspaceId("another1")) / "terminals" / TERMINAL
        shutil.copytree(life.folder(), stolen)
        life.folder().rename(tmp_path / "elsewhere")
    async with living(tmp_path, lines, lines.run_dir) as life:
        assert life.terminals.kept(WORKSPACE, TERMINAL) is None
        assert not stolen.exists()


async def test_opening_again_starts_nothing_again(node: Life, lines: LocalLines) -> None:
    for _ in range(3):
        await node.terminals.open(an_order("sh"))
    assert lines.opened == 1


async def test_a_terminal_that_cannot_be_opened_says_why_and_leaves_nothing(
    node: Life, lines: LocalLines
) -> None:
    lines.fail_next = [NodeError("terminal_failed", "There is no shell.")]
    with pytest.raises(NodeError, match="There is no shell"):
        await node.terminals.open(an_order())
    assert not node.folder().exists()
    await node.terminals.open(an_order("sh"))


async def test_who_may_only_look_cannot_type(node: Life) -> None:
    await node.terminals.open(an_order("cat"))
    async with watching(node.view(writes=False)) as viewer, watching(node.view("Bo")) as other:
        await viewer.say(Input(b"no"))
        await until(lambda: viewer.closed)
        assert viewer.closed == (CLOSE_UNREADABLE, "this viewer may only look")
        await other.say(Input(b"yes\n"))
        await other.sees("yes")
        assert "no" not in other.text


@pytest.mark.parametrize("message", [b"", b"?", b"Sxx", encode(Exited(1)), b"I" + b"x" * 70_000])
async def test_what_is_no_frame_ends_that_view_alone(node: Life, message: bytes) -> None:
    await node.terminals.open(an_order("cat"))
    async with watching(node.view()) as viewer, watching(node.view()) as other:
        await until(lambda: viewer.paints)
        await viewer.wire.back.put(message)
        await until(lambda: viewer.closed)
        assert viewer.closed
        assert viewer.closed[0] == CLOSE_UNREADABLE
        await other.say(Input(b"still\n"))
        await other.sees("still")


async def test_the_size_is_that_of_who_typed_last(node: Life) -> None:
    await node.terminals.open(an_order("sh"))
    async with watching(node.view("Ada"), size=Size(100, 30)) as ada:
        await until(lambda: ada.shown == Size(100, 30))
        async with watching(node.view("Bo"), size=Size(60, 20)) as bo:
            await until(lambda: bo.viewers and len(bo.viewers.viewers) == 2)
            assert bo.shown == Size(100, 30)
            await bo.say(Input(b"stty size\n"))
            await until(lambda: ada.shown == Size(60, 20))
            await bo.sees("20 60")
            await until(lambda: _names(ada, active=True) == ["Bo"])
            await ada.say(Fit(Size(90, 25)))
            await bo.say(Fit(Size(61, 21)))
            await until(lambda: ada.shown == Size(61, 21))
        await until(lambda: ada.shown == Size(90, 25))
        await until(lambda: _names(ada) == ["Ada"] == _names(ada, active=True))
        await ada.say(Input(b"stty size\n"))
        await ada.sees("25 90")


def _names(viewer: Watching, *, active: bool = False) -> list[str]:
    found = viewer.viewers.viewers if viewer.viewers else ()
    return [each.name for each in found if each.is_active or not active]


async def test_beats_are_answered(node: Life) -> None:
    await node.terminals.open(an_order("cat"))
    async with watching(node.view()) as viewer:
        for _ in range(3):
            await viewer.say(Beat())
        await until(lambda: viewer.beats == 3)


async def test_there_is_nothing_to_see_of_a_terminal_that_is_not_there(node: Life) -> None:
    async with watching(node.view()) as viewer:
        await until(lambda: viewer.closed)
        assert viewer.closed
        assert viewer.closed[0] == CLOSE_MISSING


async def test_closing_ends_the_shell_its_views_and_its_files(node: Life, tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    script = f"trap 'echo x > {mark}; exit' HUP; echo ready; while :; do sleep 0.1; done"
    await node.terminals.open(an_order("sh", "-c", script))
    async with watching(node.view()) as viewer:
        await viewer.sees("ready")
        order = CloseTerminal(workspace=WORKSPACE, terminal=TERMINAL)
        await node.terminals.close(order)
        await until(lambda: viewer.closed)
        assert viewer.closed
        assert viewer.closed[0] == CLOSE_MISSING
        assert viewer.exit is None, "it did not end by itself"
        await node.terminals.close(order)
    await until(mark.exists)
    assert not node.folder().exists()
    assert await node.reports() == []


async def test_a_workspace_that_goes_takes_its_terminals_along(node: Life) -> None:
    others = [TerminalId(f"t-0000000{number}") for number in range(3)]
    for terminal in others:
        await node.terminals.open(an_order("cat", terminal=terminal))
    await node.terminals.close_all(WORKSPACE)
    assert not any(node.folder(terminal).exists() for terminal in others)


async def test_w9_a_hundred_reconnects_lose_nothing_and_repeat_nothing(node: Life) -> None:
    count = 'i=0; while [ $i -lt 60000 ]; do echo "漢 $i"; i=$((i+1)); done'
    await node.terminals.open(an_order("sh", "-c", count))
    chance = random.Random(9)
    got, seen = bytearray(), None
    for _ in range(100):
        async with watching(node.view(), seen=seen) as viewer:
            wanted = len(got) + chance.randrange(1, 6000)
            wanted -= len(got)
            await until(lambda v=viewer, w=wanted: v.exit or len(v.output) >= w)
            if viewer.paints and seen is None:
                got, seen = bytearray(), viewer.paints[0].offset
                first = seen
            assert len(viewer.paints) == (1 if len(got) == 0 and viewer.paints else 0)
            # What arrived may be cut anywhere: the viewer drew only a part of it.
            drawn = chance.randrange(len(viewer.output) + 1)
            got += viewer.output[:drawn]
            seen = first + len(got)
    async with watching(node.view(), seen=seen) as viewer:
        await until(lambda: viewer.exit)
        got += viewer.output
    kept = node.folder()
    whole = b"".join(path.read_bytes() for path in sorted(kept.glob("*.out")))
    assert bytes(got) == whole[first:]
    numbers = [int(line.split()[1]) for line in whole.decode().splitlines()]
    assert numbers == list(range(60000))


async def test_the_next_life_finds_the_shell_again_and_what_it_wrote_meanwhile(
    tmp_path: Path, lines: LocalLines
) -> None:
    async with living(tmp_path, lines, lines.run_dir) as life:
        await life.terminals.open(an_order("sh"))
        async with watching(life.view()) as viewer:
            await viewer.say(Input(b"A=kept; sleep 0.3; echo mean'while'\n"))
            await viewer.sees("mean'while'")
            seen = viewer.at
    async with (
        living(tmp_path, lines, lines.run_dir) as life,
        watching(life.view(), seen=seen) as viewer,
    ):
        await viewer.sees("meanwhile")
        assert viewer.paints == []
        await viewer.say(Input(b"echo is $A\n"))
        await viewer.sees("is kept")


async def test_a_shell_that_is_gone_is_said_to_be_gone_once(
    tmp_path: Path, lines: LocalLines
) -> None:
    async with living(tmp_path, lines, lines.run_dir) as life:
        await life.terminals.open(an_order("sh"))
    lines.kill_holders()
    for _ in range(2):
        async with living(tmp_path, lines, lines.run_dir) as life:
            async with watching(life.view()) as viewer:
                await until(lambda: viewer.exit)
                assert viewer.exit == Exited(None)
            await until(life.reports)
            (report,) = [json.loads(body) for body in await life.reports()]
            assert "Open another one" in report["text"]


async def test_terminals_that_are_ended_stay_with_what_they_wrote_and_how_they_ended(
    node: Life,
) -> None:
    other = TerminalId("t-00000002")
    await node.terminals.open(an_order("sh", "-c", "echo said; exit 3", terminal=other))
    await node.terminals.open(an_order("cat"))
    async with watching(node.view()) as viewer:
        await viewer.say(Input(b"typed\n"))
        await viewer.sees("typed")
        await node.terminals.end_all(WORKSPACE)
        await until(lambda: viewer.exit)
    kept = json.loads((node.folder() / "terminal.json").read_bytes())
    assert kept["end"] is not None, "it is on the disk before the call is over"
    async with watching(node.view(terminal=other)) as late:
        await until(lambda: late.exit == Exited(3))
        assert "said" in late.text
    await node.terminals.end_all(WORKSPACE)
    assert len(await node.reports()) == 2


async def test_terminals_of_a_workspace_that_came_back_are_over_and_can_be_looked_at(
    node: Life, tmp_path: Path
) -> None:
    await node.terminals.open(an_order("sh", "-c", "echo said; exit 3"))
    await until(node.reports)
    copy = shutil.copytree(node.folder().parent, tmp_path / "copy")
    await node.terminals.close_all(WORKSPACE)
    shutil.copytree(copy, node.folder().parent, dirs_exist_ok=True)
    shutil.copytree(copy / TERMINAL, node.folder(TerminalId("t-foreign")))
    for _ in range(2):
        await node.terminals.take_in(WORKSPACE)
    async with watching(node.view()) as viewer:
        await until(lambda: viewer.exit == Exited(3))
        assert "said" in viewer.text
    assert not node.folder(TerminalId("t-foreign")).exists(), "it is none of this place"
