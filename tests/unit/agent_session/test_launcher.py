"""What Docker says in the place of a script's output is no output."""

from unittest.mock import MagicMock

import pytest

from agent.errors import NodeError
from agent.launcher import ContainerLauncher
from core.ids import SessionId


@pytest.mark.parametrize("said", ["2\n", ""])
async def test_a_sweep_counts_what_it_killed(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _swept(said, monkeypatch) == 2 * int(said or 0)


async def test_a_sweep_that_did_not_run_is_no_clean_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NodeError, match="container init is gone") as failed:
        await _swept("OCI runtime exec failed: container init is gone\r\n", monkeypatch)
    assert failed.value.code == "docker_failed"


async def _swept(said: str, monkeypatch: pytest.MonkeyPatch) -> int:
    async def shell(*_: str, **__: str) -> str:
        return said

    launcher = ContainerLauncher(MagicMock(), "c1", user="dev", wake=MagicMock())
    monkeypatch.setattr(launcher, "_shell", shell)
    return await launcher.sweep(SessionId("s1"))
