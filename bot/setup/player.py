"""asciinema-player: recordings of terminals in the browser."""

from bot.setup.npm import Package
from bot.setup.web import WebFiles

PACKAGE = Package(
    name="asciinema-player",
    version="3.18.0",
    integrity=(
        "sha512-5gpt2ipFcy4NKmgkv+c/QXnJ9zMicxqWROCOuJqgwwtiYKM8Qe9hnDOvfqke5bW6M2DW/seO3uQYkQ0xeUUVtw=="
    ),
)


def player() -> WebFiles:
    """Return what a page with a recording loads."""
    return WebFiles(
        name="player",
        title="asciinema-player",
        variable="SAMOVAR_PLAYER",
        packages=(PACKAGE,),
        files=("asciinema-player.min.js", "asciinema-player.css"),
        patterns=("dist/bundle/asciinema-player.min.js", "dist/bundle/asciinema-player.css"),
    )
