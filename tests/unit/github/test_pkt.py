"""The head of a push: what git writes is understood, what is not understood is refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.github.pkt import HEAD_BYTES_MAX, Command, PktError, PushHead, refusal

ZERO = "0" * 40
oids = st.one_of(*(st.text("0123456789abcdef", min_size=n, max_size=n) for n in (40, 64)))
names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters=" \x7f"),
    min_size=1,
    max_size=30,
).map(lambda text: f"refs/heads/{text}")
commands = st.builds(lambda old, new, ref: Command(old=old, new=new, ref=ref), oids, oids, names)
words = st.lists(st.sampled_from(["report-status", "side-band-64k", "atomic", "agent=git/2"]))


def pkt(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


def written(asked: list[Command], capabilities: list[str], *, shallow: list[str]) -> bytes:
    """Write a push as git does: shallow lines, commands, capabilities behind the first one."""
    lines = [f"shallow {oid}".encode() for oid in shallow]
    for number, command in enumerate(asked):
        tail = "" if number else "\0 " + " ".join(capabilities)
        lines.append(f"{command.old} {command.new} {command.ref}{tail}".encode())
    return b"".join(map(pkt, lines)) + b"0000"


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        yield data[at:cut]
        at = cut


@given(
    st.lists(commands, min_size=1, max_size=5),
    words,
    st.lists(oids, max_size=3),
    st.binary(max_size=200),
    st.lists(st.integers(0, 10**4), max_size=8),
)
def test_what_was_asked_is_read_however_it_was_cut(
    asked: list[Command],
    capabilities: list[str],
    shallow: list[str],
    pack: bytes,
    cuts: list[int],
) -> None:
    head = PushHead()
    data = written(asked, capabilities, shallow=shallow) + pack
    for piece in pieces(data, cuts):
        head.feed(piece)
    assert head.is_whole
    assert head.commands == asked
    assert head.capabilities == frozenset(capabilities)
    assert bytes(head.seen) == data, "every byte is sent on, the pack's too"


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
def test_any_bytes_are_read_or_refused_and_never_crash(data: bytes, cuts: list[int]) -> None:
    head = PushHead()
    try:
        for piece in pieces(data, cuts):
            head.feed(piece)
    except PktError:
        return
    assert not head.is_whole or b"0000" in data


@pytest.mark.parametrize(
    "line",
    [
        b"push-cert\0report-status\n",
        b"shallow " + ZERO.encode() + b"\0x",
        f"{ZERO} {ZERO[:-1]} refs/heads/x".encode(),
        f"{ZERO} {ZERO.replace('0', 'A')} refs/heads/x".encode(),
        f"{ZERO} {ZERO} ".encode(),
        f"{ZERO} {ZERO} refs/heads/a b".encode(),
        f"{ZERO} {ZERO} refs/heads/a\nb".encode(),
        f"{ZERO} {ZERO} ".encode() + b"refs/heads/\xff",
        b"",
    ],
)
def test_a_line_that_is_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(PktError):
        PushHead().feed(pkt(line) + b"0000")


def test_capabilities_behind_a_later_command_are_refused() -> None:
    line = f"{ZERO} {ZERO} refs/heads/x".encode()
    with pytest.raises(PktError):
        PushHead().feed(pkt(line) + pkt(line + b"\0atomic") + b"0000")


@pytest.mark.parametrize("length", [b"0001", b"0002", b"0003", b"-001", b"000G", b"FFFF"])
def test_special_and_broken_lengths_are_refused(length: bytes) -> None:
    with pytest.raises(PktError):
        PushHead().feed(length)


def test_a_head_without_end_is_refused() -> None:
    head = PushHead()
    line = pkt(f"{ZERO} {ZERO} refs/heads/{'x' * 60_000}".encode())
    head.feed(line * (HEAD_BYTES_MAX // len(line)))
    with pytest.raises(PktError, match="too many refs"):
        head.feed(line)


def test_deletion_is_seen_in_both_lengths_of_ids() -> None:
    for size in (40, 64):
        assert Command(old="1" * size, new="0" * size, ref="refs/heads/x").is_delete
        assert not Command(old="0" * size, new="1" * size, ref="refs/heads/x").is_delete


@given(st.lists(commands, min_size=1, max_size=5), st.booleans())
def test_a_refusal_names_every_ref(asked: list[Command], banded: bool) -> None:
    head = PushHead()
    capabilities = ["report-status", *["side-band-64k"] * banded]
    head.feed(written(asked, capabilities, shallow=[]))
    answer = refusal(head, {c.ref: "no" for c in asked}, remark="nothing was pushed")
    assert answer is not None
    for command in asked:
        assert b"ng " + command.ref.encode() + b" no\n" in answer
    assert answer.endswith(b"0000")
    assert (b"\x02nothing was pushed\n" in answer) == banded


def test_a_client_that_takes_no_report_gets_none() -> None:
    head = PushHead()
    command = Command(old=ZERO, new=ZERO, ref="refs/heads/x")
    head.feed(written([command], ["atomic"], shallow=[]))
    assert refusal(head, {command.ref: "no"}, remark="") is None


async def test_what_git_itself_sends_is_understood(tmp_path: Path) -> None:
    """`git send-pack --stateless-rpc` writes to stdout what it would POST."""
    script = """
    git init -q -b main && git config user.name a && git config user.email a@b
    git commit -q --allow-empty -m one && sha=$(git rev-parse HEAD)
    python3 - "$sha" <<'PY' | git send-pack --stateless-rpc . HEAD:refs/heads/new :refs/heads/old
import sys
line = f"{sys.argv[1]} refs/heads/old\\0report-status side-band-64k delete-refs ofs-delta\\n"
sys.stdout.write(f"{len(line) + 4:04x}{line}0000")
PY
    true
    """
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    # Stateless mode wraps what goes to the server in one more pkt-line.
    head = PushHead()
    head.feed(out[4:])
    assert {command.ref: command.is_delete for command in head.commands} == {
        "refs/heads/new": False,
        "refs/heads/old": True,
    }
    assert "report-status" in head.capabilities
