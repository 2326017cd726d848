"""Source text with its syntax in colours, line by line (pure).

Lexers are regular expressions over a stranger's text, so what could keep them busy is shown plain.
"""

from collections.abc import Sequence

from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

from adapters.web.visible import visible

CHARS_MAX = 200_000
LINE_CHARS_MAX = 2_000
_FORMATTER = HtmlFormatter(nowrap=True)


def coloured(name: str, text: str) -> Sequence[Markup]:
    """Return the lines of a file called `name` as HTML, hidden characters visible."""
    lines = visible(text).split("\n")
    lexer = _lexer(name)
    is_tame = len(text) <= CHARS_MAX and max(map(len, lines)) <= LINE_CHARS_MAX
    if lexer is None or not is_tame:
        return [escape(line) for line in lines]
    html = highlight("\n".join(lines), lexer, _FORMATTER)
    drawn = html.removesuffix("\n").split("\n") if len(lines) > 1 else [html.removesuffix("\n")]
    if len(drawn) != len(lines):
        return [escape(line) for line in lines]
    return [Markup(line) for line in drawn]  # noqa: S704  the formatter escapes every token


def _lexer(name: str) -> Lexer | None:
    try:
        return get_lexer_for_filename(name, stripnl=False, stripall=False, ensurenl=False)
    except ClassNotFound:
        return None
