"""Words from outside, made fit for a page: Markdown tamed, changes coloured (pure).

Everything that a coding agent, a repository or another person wrote is data. Characters that
would hide, reorder or fake text are replaced by marks that people can see; the rest is left to
the template engine, which escapes every value.
"""

import re
from collections.abc import MutableMapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

from adapters.web.visible import CLIP_CHARS, clip, log_text, visible

MARKDOWN_CHARS_MAX = 60_000
"""Longer text is shown as it is: parsing time grows faster than its length."""
DIFF_LINES_MAX = 400


def diff_lines(text: str) -> list[tuple[str, str]]:
    """Return the lines of a unified diff with a class each: `add`, `del`, `hunk` or empty."""
    lines = log_text(clip(text.rstrip("\n"), 4 * CLIP_CHARS)).split("\n")
    shown = [(_diff_class(line), line) for line in lines[:DIFF_LINES_MAX]]
    if len(lines) > DIFF_LINES_MAX:
        shown.append(("hunk", f"\u2026 {len(lines) - DIFF_LINES_MAX} more lines"))
    return shown


def _diff_class(line: str) -> str:
    if line.startswith(("+++", "---")):
        return "head"
    return {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], "")


def markdown(text: str) -> Markup:
    """Render Markdown of a stranger: no HTML, no pictures, links to http and https only."""
    text = visible(text)
    if len(text) > MARKDOWN_CHARS_MAX:
        return Markup("<pre class=plain>{}</pre>").format(clip(text, MARKDOWN_CHARS_MAX))
    return Markup(_MARKDOWN.render(text))  # noqa: S704  markdown-it escapes; raw HTML is off


def _link_open(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: Any,
    _env: MutableMapping[str, Any],
) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    tokens[index].attrSet("target", "_blank")
    return renderer.renderToken(tokens, index, options, _env)


def _image(
    _renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    _options: Any,
    _env: MutableMapping[str, Any],
) -> str:
    """Make a link of a picture: fetching it would tell a stranger who reads this, and when."""
    link = '<a href="{}" rel="noopener noreferrer nofollow" target="_blank">picture: {}</a>'
    token = tokens[index]
    return link.format(escape(token.attrGet("src") or ""), escape(token.content or "without name"))


_ADDRESS = re.compile(r"(?<![\w/@.])https?://[^\s<>\"'`\u27e8]+[^\s<>\"'`\u27e8.,;:!?)\]*_~]")
"""An address in running text; what ends a sentence is not part of it."""


def _link_addresses(state: StateCore) -> None:
    """Make links of the addresses in running text, outside of code and of other links."""
    for token in state.tokens:
        if token.type != "inline" or not token.children:
            continue
        depth, children = 0, list[Token]()
        for child in token.children:
            depth += child.type == "link_open"
            depth -= child.type == "link_close"
            children += _linked(child) if child.type == "text" and not depth else [child]
        token.children = children


def _linked(text: Token) -> list[Token]:
    parts, end = list[Token](), 0
    for found in _ADDRESS.finditer(text.content):
        parts.append(Token("text", "", 0, content=text.content[end : found.start()]))
        parts.append(Token("link_open", "a", 1, attrs={"href": found[0]}))
        parts.append(Token("text", "", 0, content=found[0]))
        parts.append(Token("link_close", "a", -1))
        end = found.end()
    return [*parts, Token("text", "", 0, content=text.content[end:])] if parts else [text]


def is_web_link(url: str) -> bool:
    """Whether `url` leads to a web page elsewhere, the only links that we make of words."""
    return re.match(r"https?://[^/\s]", url, re.IGNORECASE) is not None


def _tame() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = is_web_link  # type: ignore[method-assign]  # its documented hook
    parser.core.ruler.push("addresses", _link_addresses)
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("image", _image)
    return parser


_MARKDOWN = _tame()
