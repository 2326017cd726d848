import asyncio

from adapters.anthropic.gate import Gate


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_an_open_gate_lets_in_at_once() -> None:
    assert Gate(first_s=1, longest_s=60).wait_s() == 0


async def test_each_storm_doubles_the_pause_up_to_the_longest() -> None:
    gate, pauses = Gate(first_s=1, longest_s=5), []
    for _ in range(5):
        gate.refused(asked_at=now() + 100, retry_after_s=None)
        pauses.append(gate.wait_s())
    for pause, expected in zip(pauses, [1, 2, 4, 5, 5], strict=True):
        assert expected * 0.9 <= pause <= expected * 1.25


async def test_refusals_of_calls_that_were_under_way_are_one_storm() -> None:
    gate, asked_at = Gate(first_s=1, longest_s=60), now()
    assert gate.refused(asked_at=asked_at, retry_after_s=None)
    for _ in range(20):
        assert not gate.refused(asked_at=asked_at, retry_after_s=None)
    assert gate.wait_s() <= 1.25


async def test_what_the_supplier_asks_for_counts_for_more_than_our_own_pause() -> None:
    gate = Gate(first_s=1, longest_s=60)
    gate.refused(asked_at=now(), retry_after_s=7)
    assert 6.9 <= gate.wait_s() <= 7 * 1.25


async def test_a_call_that_passes_ends_the_outage_once() -> None:
    gate = Gate(first_s=1, longest_s=60)
    assert not gate.passed()
    assert gate.refused(asked_at=now(), retry_after_s=None)
    assert gate.passed()
    assert not gate.passed()
