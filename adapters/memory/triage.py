"""Triage without a model."""

from collections.abc import Sequence

from core.ports.triage import Reading
from core.project import Project
from core.triage import read_plainly


class PlainTriage:
    """See `Triage`. The reading is by form alone."""

    async def read(self, text: str, *, projects: Sequence[Project]) -> Reading:
        """See `Triage.read`."""
        return read_plainly(text, projects)
