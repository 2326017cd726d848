import pytest

from adapters.anthropic.upstream import Key
from core.secret import Secret


def test_an_api_key_is_one_header_and_stays_out_of_sight() -> None:
    key = Key(secret=Secret("sk-ant-CANARY"))
    assert key.added_to([("a", "b")]) == [("a", "b"), ("x-api-key", "sk-ant-CANARY")]
    assert "CANARY" not in f"{key} {key!r} {key.secret} {key.secret!r}"


@pytest.mark.parametrize(
    ("beta", "sent"),
    [
        ([], "oauth-2025-04-20"),
        ([("anthropic-beta", "a,b")], "a,b,oauth-2025-04-20"),
        ([("anthropic-beta", "oauth-2025-04-20,a")], "oauth-2025-04-20,a"),
    ],
)
def test_a_subscription_brings_its_beta_once(beta: list[tuple[str, str]], sent: str) -> None:
    headers = Key(secret=Secret("t"), kind="oauth").added_to([("a", "b"), *beta])
    assert headers == [("a", "b"), ("anthropic-beta", sent), ("authorization", "Bearer t")]
