"""Port: what a person's message is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from core.ids import ProjectId
from core.project import Project

Kind = Literal["task", "question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A message, understood.

    Attributes:
        kind: A question wants an answer and no commit.
        title: One line of 1 to 80 printable characters, for cards and pull requests.
        slug: 1 to 40 of `a-z0-9-`, for the name of the branch.
        project: The one that is meant; None when the text does not say.
        reason: Why that project and that kind, for the person; one line.
    """

    kind: Kind
    title: str
    slug: str
    project: ProjectId | None
    reason: str


class Triage(Protocol):
    """Reads a message before anything is done about it.

    Promises, each held by a test of the same number in `tests/contracts/test_triage.py`:

    1. Every text has a reading: no error leaves `read`, whatever the text, and whether or not
       the supplier answers.
    2. `title`, `slug` and `reason` are what `Reading` says, whatever the text or a model says.
    3. `project` is one of `projects` or None.
    4. It takes no longer than the adapter's time limit.
    """

    async def read(self, text: str, *, projects: Sequence[Project]) -> Reading:
        """Return what `text` is about; `projects` are those that the person may use."""
        ...
