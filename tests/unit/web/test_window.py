"""Frames that all viewers share."""

import random

from adapters.web.window import FRAMES_MAX, Drafts, Parts, Window, frame


def test_a_frame_of_several_lines_is_one_event() -> None:
    assert frame("put", "a\nb\rc", id_="7") == b"id: 7\nevent: put\ndata: a\ndata: b\ndata: c\n\n"


def test_viewers_at_any_offset_get_exactly_what_is_past_it() -> None:
    rng = random.Random(7)
    window, stored, offset = Window(-1), [], -1
    for _ in range(300):
        offset += rng.randint(1, 90)
        stored.append(offset)
        window.add(offset, b"%d;" % offset if rng.random() < 0.9 else b"")
        seen = rng.randint(-1, offset + 5)
        got = window.after(seen)
        assert got is not None
        numbers = [int(n) for n in got.split(b";") if n]
        assert numbers == [n for n in numbers if n > seen]
        assert set(numbers) <= {n for n in stored if n > seen}
    everything = window.after(-1)
    assert everything is not None
    assert everything.count(b";") <= len(stored)


def test_a_window_forgets_its_oldest_frames_and_says_so() -> None:
    window = Window(-1)
    for offset in range(FRAMES_MAX + 1):
        window.add(offset, b"x")
    assert window.start > -1
    assert window.after(-1) is None
    rest = window.after(window.start)
    assert rest == b"x" * (FRAMES_MAX - window.start)


def test_only_the_newest_frame_of_a_part_counts() -> None:
    parts = Parts()
    assert parts.put("card", b"1")
    assert parts.put("line", b"2")
    assert parts.put("card", b"3")
    assert not parts.put("card", b"3"), "the same frame is no news"
    assert parts.after(0) == b"23"
    assert parts.after(2) == b"3"
    assert parts.after(parts.version) == b""


def test_a_draft_lasts_until_its_message_is_stored() -> None:
    drafts = Drafts()
    drafts.add("m1", "Hel")
    drafts.add("m1", "lo")
    drafts.add("m2", "x")
    assert b'"at": 3, "text": "lo"' in drafts.after(1)
    drafts.drop("m1")
    assert drafts.after(0).count(b"event: draft") == 1
    drafts.drop()
    assert drafts.after(0) == b""
