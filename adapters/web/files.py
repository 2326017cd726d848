"""Files as they are: our scripts and styles, and those of packages."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"


class _Files(StaticFiles):
    """Names carry no version, so browsers ask whether a file changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def mount_files(app: Starlette, **packages: Path | None) -> None:
    """Serve our files under `/static`, and those of packages that are on this machine by name."""
    for name, folder in packages.items():
        if folder is not None:
            app.mount(f"/static/{name}", _Files(directory=folder))
    app.mount("/static", _Files(directory=STATIC))
