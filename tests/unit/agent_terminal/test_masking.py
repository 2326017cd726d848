"""Secrets by their shape: hidden whole, hidden cut, and never at the price of a standstill."""

import base64
import random
import time

import pytest

from agent.masking import KEY_BYTES_MAX, masked

HEAD = "-----BEGIN OPENSSH PRIVATE KEY-----"
END = "-----END OPENSSH PRIVATE KEY-----"
BODY = base64.b64encode(random.Random(7).randbytes(1800)).decode()
LINES = [BODY[at : at + 70] for at in range(0, len(BODY), 70)]


def shown(text: str) -> str:
    hidden = masked(text.encode())
    assert len(hidden) == len(text.encode())
    return hidden.decode()


def tells(text: str) -> bool:
    """Whether sixteen characters of the key can be read."""
    hidden = shown(text)
    return any(BODY[at : at + 16] in hidden for at in range(len(BODY) - 15))


@pytest.mark.parametrize("gap", ["\n", "\r\n", "\\n", " ", "\x1b[m\r\n\x1b[32m+", "\n  12\t"])
@pytest.mark.parametrize("lines", [LINES[:20], LINES])
def test_a_key_without_its_end_is_hidden_as_far_as_it_goes(lines: list[str], gap: str) -> None:
    after = "\r\n$ make\r\n" + "all is well. " * 1100
    text = f"$ head id\r\n{gap.join([HEAD, *lines])}{after}"
    assert not tells(text)
    assert shown(text).startswith("$ head id\r\n***")
    assert shown(text).endswith(after)


def test_the_headers_of_a_key_hide_nothing_of_it() -> None:
    head = "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES-128-CBC,0A1B"
    assert not tells("\r\n".join([head, "", *LINES]))


def test_words_about_keys_are_left_alone() -> None:
    text = f"It begins with {HEAD}, and then come lines.\nRead the README.\n"
    assert shown(text) == text


def test_one_key_after_another_is_hidden_up_to_its_own_end() -> None:
    whole = "\n".join([HEAD, *LINES, END])
    cut = "\n".join([HEAD, *LINES[:3]])
    text = f"{whole}\nbetween\n{cut}\nagain\n{whole}\nafter\n"
    assert not tells(text)
    assert [word for word in shown(text).split() if "*" not in word] == [
        "between",
        "again",
        "after",
    ]


@pytest.mark.parametrize(
    "line",
    [f"{HEAD}\n", f"{HEAD} said.\n", HEAD + "\n" * 500, HEAD + "Aa: b" * 200, HEAD + "A" * 15],
)
def test_hostile_output_is_looked_at_in_one_go(line: str) -> None:
    text = (line * (2 * 2**20 // len(line))).encode()
    began = time.thread_time()
    masked(text)
    assert time.thread_time() - began < 3, "far more than it takes, far less than the square"
    assert len(text) > 100 * KEY_BYTES_MAX
