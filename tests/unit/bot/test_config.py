import re
import tomllib
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from bot.config import Config, ProjectConfig, ServerConfig, load
from core.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"


def _settings(kind: type, prefix: str = "") -> set[str]:
    found = set()
    hints = get_type_hints(kind)
    for one in fields(kind):
        hint = hints[one.name]
        item = get_args(hint)[0] if get_args(hint) else hint
        if is_dataclass(item):
            found |= _settings(item, f"{prefix}{one.name}.")
        else:
            found.add(f"{prefix}{one.name}")
    return found


def _uncommented() -> str:
    """The example with its commented-out settings and tables in force."""
    return re.sub(r"^# (?=(\w+ = |\[\[))", "", EXAMPLE.read_text(), flags=re.MULTILINE)


def _named(table: dict[str, object], prefix: str = "") -> set[str]:
    found = set()
    for name, value in table.items():
        tables = value if isinstance(value, list) else [value]
        if tables and all(isinstance(one, dict) for one in tables):
            found |= {key for one in tables for key in _named(one, f"{prefix}{name}.")}
        else:
            found.add(f"{prefix}{name}")
    return found


def test_the_example_names_every_setting_and_no_other():
    assert _named(tomllib.loads(_uncommented())) == _settings(Config)


def test_the_example_holds_the_defaults():
    shown = load(EXAMPLE)
    assert shown == Config(state=shown.state)


def test_every_setting_of_the_example_has_a_comment_above_it_or_beside_it():
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+ = ", line):
            above = next(
                text for text in reversed(lines[:number]) if not re.match(r"\w+ = |\[\[", text)
            )
            assert above.startswith("#"), f"{line}: say why"


def test_a_project_is_read(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text(
        '[[projects]]\nid = "web"\nrepository = "acme/web"\nchecks = ["make"]\nbudget_usd = 1.5\n'
    )
    assert load(file).projects == (
        ProjectConfig(id="web", repository="acme/web", checks=("make",), budget_usd=Decimal("1.5")),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[servr]\nport = 1\n", "servr: unknown setting"),
        ("[server]\nprot = 1\n", "server.prot: unknown setting; known: host, port"),
        ('[server]\nport = "x"\n', "server.port: 'x' is not of type int"),
        ("[server]\nport = true\n", "server.port: True is not of type int"),
        ('[[projects]]\nid = "a"\n', "projects[0].repository: missing"),
        ('[[projects]]\nid = "a"\nrepository = "b"\n', "'b' is not of the form owner/name"),
        ('[[projects]]\nid = "a"\nrepository = "b/c"\nsize = "huge"\n', "'huge' is not one of"),
        ("[clocks]\nlease_s = 4\n", "clocks.beat_s (5) must be shorter than clocks.lease_s (4)"),
        ("[limits]\nruns = 0\n", "limits.runs must be positive"),
        ("[", "Invalid"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, sentence: str):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(sentence).replace("Invalid", ".")):
        load(file)


def test_without_a_local_node_the_default_image_must_be_named(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("[local]\nenabled = false\n")
    with pytest.raises(ConfigError, match=r"workspace\.image: name an image"):
        load(file)
    file.write_text('[local]\nenabled = false\n[workspace]\nimage = "debian:bookworm"\n')
    assert load(file).workspace.image == "debian:bookworm"


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file"):
        load(tmp_path / "gone.toml")


def test_the_file_in_the_state_folder_is_found_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SAMOVAR_STATE", str(tmp_path))
    assert load(None) == Config(state=tmp_path)
    (tmp_path / "config.toml").write_text("[server]\nport = 9000\n")
    assert load(None).server.port == 9000


@pytest.mark.parametrize(
    ("public_url", "domain", "wanted"),
    [
        ("", "", "localhost"),
        ("http://localhost:8420", "", "localhost"),
        ("http://[::1]:8420", "", "localhost"),
        ("https://Samovar.example", "", "samovar.example"),
        ("https://samovar.example", "Tea.example.", "tea.example"),
        ("http://192.0.2.7:8420", "", ""),
        ("http://192.0.2.7:8420", "tea.example", "tea.example"),
    ],
)
def test_workspaces_are_named_below_a_domain_that_follows_from_where_people_come(
    public_url, domain, wanted
):
    assert Config(server=ServerConfig(public_url=public_url, domain=domain)).domain == wanted
