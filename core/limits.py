"""How much may be there at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ceilings that hold whatever happens; each is counted in the insert that it limits.

    Attributes:
        nodes: Nodes of the supplier that may exist at once, in any state but gone.
        runs: Runs that may be live at once.
        runs_per_person: Runs of one person that may be live at once.

    Raises:
        ValueError: If one is not positive.
    """

    nodes: int = 10
    runs: int = 10
    runs_per_person: int = 3

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"limits.{name} must be positive")
