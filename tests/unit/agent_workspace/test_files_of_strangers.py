"""Parsers of what repositories and people give us."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import configuration, files, jsonc
from agent.checkout import git_file
from agent.errors import NodeError
from agent.git import git, origin
from agent.override import workspace_folder
from agent.secrets_guard import is_secret_name

JSON = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=20)
)


@given(JSON)
def test_plain_json_is_read_as_json(value: dict[str, object]) -> None:
    assert jsonc.loads(json.dumps(value)) == value
    assert jsonc.loads(json.dumps(value, ensure_ascii=False, indent=2)) == value


@given(JSON)
def test_comments_and_trailing_commas_change_nothing(value: dict[str, object]) -> None:
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}, // a, /* b" for k, v in value.items()]
    text = "/* c\n // */ {\n" + "\n".join(lines) + "\n /* d */ } // e"
    assert jsonc.loads(text) == value


@pytest.mark.parametrize(
    ("text", "line"),
    [('{\n"a": 1\n"b": 2}', 3), ("{\n\n// x\n oops }", 4), ("[]", 1), ("", 1), ('{"a": NaN}', 1)],
)
def test_a_syntax_error_names_its_line(text: str, line: int) -> None:
    with pytest.raises(jsonc.SyntaxFault) as fault:
        jsonc.loads(text)
    assert fault.value.line == line


@given(st.text(max_size=60))
def test_any_text_is_an_object_or_a_syntax_fault(text: str) -> None:
    with suppress(jsonc.SyntaxFault):
        assert isinstance(jsonc.loads(text), dict)


def test_deeply_nested_text_is_a_syntax_fault() -> None:
    with pytest.raises(jsonc.SyntaxFault):
        jsonc.loads('{"a":' + "[" * 100_000)


def test_a_configuration_that_is_a_link_out_of_the_checkout_is_refused(tmp_path: Path) -> None:
    checkout = tmp_path / "web"
    (checkout / ".devcontainer").mkdir(parents=True)
    (tmp_path / "secret.json").write_text("{}")
    link = checkout / ".devcontainer/devcontainer.json"
    link.symlink_to("../../secret.json")
    with pytest.raises(NodeError) as refused:
        configuration.find(checkout, "")
    assert refused.value.code == "policy_refused"
    link.unlink()
    link.symlink_to("../inner.json")
    (checkout / "inner.json").write_text('{"image": "x"}')
    found = configuration.find(checkout, "")
    assert found is not None
    assert found.raw == {"image": "x"}


@pytest.mark.parametrize("name", ["..", "a/b", "../x", "none", "\0"])
def test_a_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(NodeError) as refused:
        configuration.find(tmp_path, name)
    assert refused.value.code == "unknown_devcontainer"


@given(st.text(max_size=40))
def test_an_id_is_a_plain_file_name_or_refused(name: str) -> None:
    try:
        path = files.Layout(state=Path("/s")).workspace(name)  # type: ignore[arg-type]
    except ValueError:
        return
    assert path.parent == Path("/s/ws")
    assert path.name not in {"", ".", ".."}


def test_writing_a_file_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    target = tmp_path / "a/b.json"
    files.write_json(target, {"a": 1})
    files.write_json(target, {"a": 2})
    assert files.read_json(target) == {"a": 2}
    assert [path.name for path in target.parent.iterdir()] == ["b.json"]
    assert target.stat().st_mode & 0o777 == 0o600


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_a_workspace_folder_never_adds_a_part_to_our_mount(folder: str) -> None:
    for raw in (
        {"workspaceFolder": folder},
        {"workspaceMount": f"source=x,target={folder}", "workspaceFolder": folder},
    ):
        made = workspace_folder(raw, Path("/c/web"))
        parts = [part.split("=")[0] for part in made["workspaceMount"].split(",")]
        assert parts == ["type", "source", "target"]
        assert "source=/c/web," in made["workspaceMount"]


async def test_git_reads_its_settings_as_we_wrote_them(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ back # hash ; semi\ttab'
    path = tmp_path / "config"
    path.write_text(
        git_file({"user.name": odd, 'branch.a"b\\c.remote': "origin", "core.bare": "x"})
    )
    for name, value in (("user.name", odd), ('branch.a"b\\c.remote', "origin")):
        assert (await git("config", "--file", str(path), "--get", name)).text == value


@pytest.mark.parametrize(
    ("path", "is_secret"),
    [
        (".env", True),
        ("app/.env.production", True),
        (".env.example", False),
        (".env.test", False),
        ("id_rsa", True),
        ("id_rsa.pub", False),
        ("server.key", True),
        ("keyboard.py", False),
        ("environment.py", False),
        ("line\nbreak.pem", True),
        (".npmrc", True),
    ],
)
def test_names_of_secrets(path: str, is_secret: bool) -> None:
    assert is_secret_name(path) is is_secret


def test_an_origin_has_scheme_host_and_port() -> None:
    assert origin("https://u:p@Forge.example:8443/a/b.git?x#y") == "https://forge.example:8443"
