"""What the stand-in's pages and answers say about a change is what git said."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.demo.forge.diff import read_diff
from bot.demo.forge.repositories import Repositories

lines = st.lists(
    st.sampled_from(
        ["a", "b", "", "diff --git a/x b/x", "@@ -1 +1 @@", "--- a/x", "+x", "-x", "\\"]
    ),
    max_size=6,
)
files = st.dictionaries(
    st.sampled_from(["x", "y z", 'q"uote', "ünï", "tab\tname", "d/x", "-x"]), lines, min_size=1
)


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def lay_out(root: Path, tree: dict[str, list[str]]) -> str:
    git(root, "rm", "-rfq", "--ignore-unmatch", ".")
    for name, text in tree.items():
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_text("\n".join(text))
    git(root, "add", "--all")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")
    return git(root, "rev-parse", "HEAD").strip()


@settings(max_examples=15, deadline=None)
@given(files, files)
async def test_numbers_and_names_are_those_of_git(
    before: dict[str, list[str]], after: dict[str, list[str]]
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "r.git"
        root.mkdir()
        git(root, "init", "-q")
        first, second = lay_out(root, before), lay_out(root, after)
        host = Repositories(Path(folder))
        host.path = lambda name: root / ".git"  # type: ignore[method-assign]
        seen = await host.diff("r", f"{first}..{second}")
        told = git(root, "diff", "-M", "--numstat", "-z", first, second)
    fields = iter(told.split("\0"))
    expected = {}
    for entry in fields:
        if entry:
            plus, minus, name = entry.split("\t", 2)
            if not name:
                next(fields)
                name = next(fields)
            expected[name] = (int(plus), int(minus))
    assert {file.path: (file.additions, file.deletions) for file in seen} == expected


def test_lines_carry_the_numbers_of_both_files() -> None:
    top = "diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n"
    patch = f"{top}@@ -2,3 +2,3 @@ def f\n a\n-b\n+c\n d\n"
    (file,) = read_diff("M\0x\0", patch)
    assert [(line.kind, line.old, line.new, line.text) for line in file.lines()] == [
        ("hunk", None, None, "@@ -2,3 +2,3 @@ def f"),
        ("context", 2, 2, "a"),
        ("removed", 3, None, "b"),
        ("added", None, 3, "c"),
        ("context", 4, 4, "d"),
    ]
