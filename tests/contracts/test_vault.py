"""Port `Vault`: its promises, by number."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.system import SecretBox
from core.ports.vault import SealError, Vault

OLD, NEW = b"o" * 32, b"n" * 32


def box() -> Vault:
    return SecretBox({"2025": OLD, "2026": NEW})


@given(secret=st.binary(), owner=st.text(alphabet=st.characters(codec="utf-8")))
def test_c7_1_what_was_sealed_is_opened_unchanged(secret: bytes, owner: str) -> None:
    sealed = box().seal(secret, owner=owner)
    assert box().open(sealed, owner=owner) == secret
    assert len(secret) < 8 or secret not in sealed.box


def test_2_it_opens_for_nobody_but_its_owner() -> None:
    sealed = box().seal(b"token", owner="project:web")
    with pytest.raises(SealError):
        box().open(sealed, owner="project:api")


@given(bit=st.integers(0, 8 * (len(b"token") + 16) - 1))
def test_3_a_changed_bit_breaks_the_seal(bit: int) -> None:
    sealed = box().seal(b"token", owner="a")
    changed = bytearray(sealed.box)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        box().open(replace(sealed, box=bytes(changed)), owner="a")


@pytest.mark.parametrize("change", [{"key_id": "2019"}, {"nonce": b""}, {"box": b"short"}])
def test_3_an_unknown_key_or_half_a_row_opens_nothing(change: dict[str, object]) -> None:
    sealed = box().seal(b"token", owner="a")
    with pytest.raises(SealError):
        box().open(replace(sealed, **change), owner="a")  # type: ignore[arg-type]


def test_4_the_newest_key_seals_and_the_old_one_still_opens() -> None:
    before = SecretBox({"2025": OLD}).seal(b"token", owner="a")
    assert box().open(before, owner="a") == b"token"
    assert box().seal(b"token", owner="a").key_id == "2026"


def test_5_the_same_secret_looks_different_each_time() -> None:
    boxes = {box().seal(b"token", owner="a").box for _ in range(100)}
    assert len(boxes) == 100


@pytest.mark.parametrize("keys", [{}, {"a": b"short"}])
def test_a_box_without_good_keys_is_refused(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SecretBox(keys)
