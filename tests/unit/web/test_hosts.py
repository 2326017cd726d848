"""Which host name is whose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.web.hosts import Hosts, name_in
from core.ids import WorkspaceId

HOME = Hosts(public_url="http://127.0.0.1:8420", domain="localhost")
TEAM = Hosts(public_url="https://samovar.example", domain="tea.example")
NONE = Hosts(public_url="http://192.0.2.7:8420", domain="")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("ws-w3x.localhost:8420", "ws-w3x.localhost"),
        ("WS-W3X.Localhost", "ws-w3x.localhost"),
        ("samovar.example.", "samovar.example"),
        ("[::1]:8420", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1:8420", "127.0.0.1"),
        ("", ""),
    ],
)
def test_a_name_is_read_out_of_its_header(host: str, name: str) -> None:
    assert name_in(host) == name


def test_a_workspace_has_an_origin_with_the_scheme_and_port_of_the_pages() -> None:
    workspace = WorkspaceId("w3xk2ab4")
    assert HOME.origin(workspace) == "http://ws-w3xk2ab4.localhost:8420"
    assert TEAM.origin(workspace) == "https://ws-w3xk2ab4.tea.example"
    assert (HOME.anywhere, TEAM.anywhere) == ("http://*.localhost:8420", "https://*.tea.example")
    assert NONE.anywhere == ""


@given(st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True))
def test_an_origin_leads_back_to_its_workspace(name: str) -> None:
    for hosts in (HOME, TEAM):
        origin = hosts.origin(WorkspaceId(name))
        assert hosts.workspace(name_in(origin.partition("//")[2])) == (name, None)


@given(st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True), st.integers(1, 65535))
def test_a_previews_origin_leads_back_to_its_port(name: str, port: int) -> None:
    for hosts in (HOME, TEAM):
        origin = hosts.preview(WorkspaceId(name), port)
        assert hosts.workspace(name_in(origin.partition("//")[2])) == (name, port)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ws-.tea.example",
            "ws-a--080.tea.example",
            "ws-a--0.tea.example",
            "ws-a--.tea.example",
            "ws-a.b.tea.example",
            "a.tea.example",
        ),
        *("tea.example", "ws-a.tea.example.evil.example", "ws-a.evil.example", "xws-a.tea.example"),
        *("ws-a_b.tea.example", "ws-ä.tea.example", ""),
    ],
)
def test_what_only_looks_like_a_workspaces_name_is_none(name: str) -> None:
    assert TEAM.workspace(name) is None


@pytest.mark.parametrize(
    "name", ["samovar.example", "localhost", "127.0.0.1", "::1", "10.0.0.3", ""]
)
def test_the_pages_are_shown_under_their_name_and_under_numbers(name: str) -> None:
    assert TEAM.is_ours(name)


@pytest.mark.parametrize(
    "name", ["evil.example", "tea.example", "a.samovar.example", "127.0.0.1.x"]
)
def test_the_pages_are_shown_under_no_other_name(name: str) -> None:
    assert not TEAM.is_ours(name)


def test_without_a_domain_no_name_is_a_workspaces() -> None:
    assert NONE.workspace("ws-a.") is None
    assert NONE.workspace("ws-a") is None
