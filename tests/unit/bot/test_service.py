"""How the process serves: what its servers ask of a connection."""

from pathlib import Path

from starlette.applications import Starlette

from bot.config import Config
from bot.service import _tcp_server, _unix_server


def test_a_connection_whose_data_is_taken_slowly_is_not_cut_for_a_late_pong(tmp_path: Path) -> None:
    servers = [
        _tcp_server(Config(state=tmp_path), Starlette()),
        _unix_server(tmp_path / "api.sock", Starlette()),
    ]
    for server in servers:
        assert server.config.ws_ping_timeout is None
        assert server.config.ws_ping_interval, "proxies end what is idle"
