"""xterm.js and its addons: the terminal in the browser."""

from bot.setup.npm import Package
from bot.setup.web import WebFiles

PACKAGES = (
    Package(
        name="@xterm/xterm",
        version="6.0.0",
        integrity=(
            "sha512-TQwDdQGtwwDt+2cgKDLn0IRaSxYu1tSUjgKarSDkUM0ZNiSRXFpjxEsvc/Zgc5kq5omJ+V0a8/kIM2WD3sMOYg=="
        ),
    ),
    Package(
        name="@xterm/addon-fit",
        version="0.11.0",
        integrity=(
            "sha512-jYcgT6xtVYhnhgxh3QgYDnnNMYTcf8ElbxxFzX0IZo+vabQqSPAjC3c1wJrKB5E19VwQei89QCiZZP86DCPF7g=="
        ),
    ),
    Package(
        name="@xterm/addon-search",
        version="0.16.0",
        integrity=(
            "sha512-9OeuBFu0/uZJPu+9AHKY6g/w0Czyb/Ut0A5t79I4ULoU4IfU5BEpPFVGQxP4zTTMdfZEYkVIRYbHBX1xWwjeSA=="
        ),
    ),
    Package(
        name="@xterm/addon-web-links",
        version="0.12.0",
        integrity=(
            "sha512-4Smom3RPyVp7ZMYOYDoC/9eGJJJqYhnPLGGqJ6wOBfB8VxPViJNSKdgRYb8NpaM6YSelEKbA2SStD7lGyqaobw=="
        ),
    ),
    Package(
        name="@xterm/addon-unicode-graphemes",
        version="0.4.0",
        integrity=(
            "sha512-9+/CqwbKcnlkJU4d3wIgO+wjsL8f6vyz+UwUWLu6nADQz8Gr8ONqGCJfdDjIdI+yYZLABQqQy47FzEM6AWELjw=="
        ),
    ),
)
FILES = (
    "xterm.mjs",
    "xterm.css",
    "addon-fit.mjs",
    "addon-search.mjs",
    "addon-web-links.mjs",
    "addon-unicode-graphemes.mjs",
)
"""What a page loads; all of them must be there."""


def xterm() -> WebFiles:
    """Return what a page with terminals loads."""
    return WebFiles(
        name="xterm",
        title="xterm.js",
        variable="SAMOVAR_XTERM",
        packages=PACKAGES,
        files=FILES,
        patterns=("lib/*.mjs", "css/*.css"),
    )
