"""Three released projects with different tool chains, each with a small real change."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot.demo import sample
from bot.demo.script import Step, say, step, use
from bot.setup.npm import Package, fetch, unpack
from bot.state import state_dir

# (MIT) 1.0.6 needs seconds for a path with many slashes that does not end there: CVE-2021-23343.
PATH_PARSE = Package(
    name="path-parse",
    version="1.0.6",
    integrity=(
        "sha512-GSmOT2EbHrINBf9SR7CDELwlJ8AENk3Qn7OikK4nFYAu3Ote2+JYNVvkpAEQm3/TLNEJFD/xZJjzyxg3KBWOzw=="
    ),
)
# (MIT; CC0 or Apache-2.0) The release carries the sources and tests of the C library libargon2.
ARGON2 = sample.Release(
    name="argon2-cffi-bindings",
    version="21.2.0",
    sha256="bb89ceffa6c791807d1305ceb77dbfacc5aa499891d2c55661c6459651fc39e3",
)

_LINEAR = r"""
from pathlib import Path
index, tests = Path("index.js"), Path("test.js")
text = index.read_text()
text = text.replace(r"(?:[\/]*)$/", "$/").replace(r"(?:[\\\/]*)$/", "$/")
text = text.replace("splitPathRe.exec(filename)", "splitPathRe.exec(trimmed(filename, '/'))")
text = text.replace("splitTailRe.exec(tail)", "splitTailRe.exec(trimmed(tail, '/\\\\'))")
trimmed = '''// A regex takes quadratic time to find that separators do not end the text.
function trimmed(text, separators) {
  var end = text.length;
  while (end > 1 && separators.indexOf(text[end - 1]) >= 0) end--;
  return text.slice(0, end);
}

var win32 = {};'''
index.write_text(text.replace("var win32 = {};", trimmed))
tests.write_text(tests.read_text() + '''
[pathParse.posix, pathParse.win32].forEach(function(parse) {
  var started = Date.now();
  parse('a' + new Array(50000).join('/') + 'b');
  assert.ok(Date.now() - started < 500, 'many separators take linear time');
});
''')
"""
_MESSAGE = r"""
from pathlib import Path
library, tests = Path("src/argon2.c"), Path("src/test.c")
was, now = "but ad length is not 0", "but associated data length is not 0"
library.write_text(library.read_text().replace(was, now))
end = "    return 0;\n}"
head, _, tail = tests.read_text().rpartition(end)
check = '''    ret = strcmp(argon2_error_message(ARGON2_AD_PTR_MISMATCH),
                 "Associated data pointer is NULL, but associated data length is not 0");
    assert(ret == 0);
    printf("Name what is missing: PASS\\n");

'''
tests.write_text(head + check + end + tail)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealProject:
    """A release as a repository, and what is to be changed.

    Attributes:
        check: The project's own test suite; the agent runs it, and it measures the result.
        edit: A Python program that makes the change.
        changed: The files that it changes.
    """

    name: str
    check: str
    task: str
    edit: str
    changed: frozenset[str]
    files: Mapping[str, str] = field(default_factory=dict)

    def steps(self) -> Sequence[Step]:
        """Return what the coding agent does."""
        edit = f"python3 - <<'EOF'\n{self.edit.strip()}\nEOF\ngit diff --stat"
        return [
            step(use("Bash", command=edit)),
            step(use("Bash", command=self.check)),
            step(use("Bash", command=f"git commit -qam '{self.task}' && git status --short")),
            step(say("The test suite passes.")),
        ]


NODE = RealProject(
    name="path-parse",
    check="npm test",
    task="Parse paths with many separators in linear time",
    edit=_LINEAR,
    changed=frozenset({"index.js", "test.js"}),
)
C = RealProject(
    name="libargon2",
    check="make test",
    task="Say in full which length is not 0",
    edit=_MESSAGE,
    changed=frozenset({"src/argon2.c", "src/test.c"}),
    files={
        ".gitignore": "*.o\n*.a\n*.so*\ngenkat\ntestcase\nkats/run_*\nkats/make_*\nkats/diff*\n"
    },
)


def sources(project: RealProject) -> Path:
    """Return the folder of a project's sources, fetched once and compared with its hash."""
    folder = state_dir() / "samples"
    return _of_npm(folder) if project is NODE else _of_pypi(folder)


def _of_npm(folder: Path) -> Path:
    target = folder / f"{PATH_PARSE.name}-{PATH_PARSE.version}"
    if not target.is_dir():
        scratch = folder / f".{target.name}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        archive = fetch(PATH_PARSE, scratch, what=target.name, progress=lambda _: None)
        unpack(archive, scratch / "sources")
        (scratch / "sources").rename(target)
        shutil.rmtree(scratch)
    return target


def _of_pypi(folder: Path) -> Path:
    library = sample.fetch(ARGON2, folder) / "extras" / "libargon2"
    (library / ".git").unlink(missing_ok=True)  # Names a folder of whoever made the release.
    return library
