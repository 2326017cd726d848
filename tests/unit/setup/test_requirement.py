import threading
from dataclasses import dataclass, field, replace

import pytest

from bot.setup.missing import MissingError
from bot.setup.requirement import Finding, Site, meet, probe


@dataclass
class Fake:
    """A requirement with levers."""

    name: str
    needs: tuple[str, ...] = ()
    is_there: bool = False
    can_be_brought: bool = True
    log: list[str] = field(default_factory=list)
    meets: threading.Barrier | None = None

    def probe(self, site: Site) -> str:
        self.log.append(f"probe {self.name}")
        if not self.is_there:
            raise MissingError(f"no {self.name}", mend=f"get {self.name}")
        return f"the {self.name}"

    def provide(self, site: Site) -> None:
        self.log.append(f"provide {self.name}")
        site.ask_to_install(f"no {self.name}", mend=f"get {self.name}")
        if self.meets:
            self.meets.wait(timeout=60)
        self.is_there = self.can_be_brought


def test_what_is_there_is_left_alone(site: Site) -> None:
    tea = Fake("tea", is_there=True)
    assert meet([tea], site) == [Finding(name="tea", ok=True, detail="the tea")]
    assert tea.log == ["probe tea"]
    assert site.found == {"tea": "the tea"}


def test_what_was_brought_is_tried_before_it_counts(site: Site) -> None:
    tea = Fake("tea", can_be_brought=False)
    (finding,) = meet([tea], site)
    assert finding == Finding(name="tea", ok=False, detail="no tea", mend="get tea")
    assert tea.log == ["probe tea", "provide tea", "probe tea"]


def test_needs_come_first_and_what_they_lack_is_said(site: Site) -> None:
    log: list[str] = []
    cup = Fake("cup", needs=("tea",), log=log)
    tea = Fake("tea", log=log)
    assert [finding.ok for finding in meet([cup, tea], site)] == [True, True]
    assert log == ["probe tea", "provide tea", "probe tea", "probe cup", "provide cup", "probe cup"]
    empty = replace(site, found={})
    found = meet([Fake("cup", needs=("tea",)), Fake("tea", can_be_brought=False)], empty)
    assert [finding.detail for finding in found] == ["cup needs tea first", "no tea"]


def test_what_does_not_need_each_other_is_brought_at_the_same_time(site: Site) -> None:
    both = threading.Barrier(2)
    found = meet([Fake("milk", meets=both), Fake("sugar", meets=both)], site)
    assert [finding.ok for finding in found] == [True, True]


def test_nothing_is_brought_without_permission(site: Site) -> None:
    tea = Fake("tea")
    (finding,) = meet([tea], replace(site, may_install=False))
    assert (finding.ok, finding.mend, tea.is_there) == (False, "get tea", False)


def test_an_examination_changes_nothing(site: Site) -> None:
    tea = Fake("tea")
    (finding,) = probe([tea], site)
    assert not finding.ok
    assert tea.log == ["probe tea"]


def test_a_bug_in_a_requirement_is_not_taken_for_something_missing(site: Site) -> None:
    class Broken(Fake):
        def probe(self, site: Site) -> str:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        meet([Broken("tea")], site)
