import pytest

from adapters.memory.files import MemoryFiles
from adapters.memory.triage import PlainTriage
from adapters.store.store import SqlStore
from adapters.store.work import SqlWork
from bot.commands import BotCommands
from bot.conversation import Conversation
from bot.doors import WorkspaceDoors
from bot.people import People
from bot.pulse import Pulse
from bot.records import Cards
from core.ids import ProjectId
from core.project import Project
from tests.fakes.desk import REPLICA, Desk, Logs, WorkingClock
from tests.fakes.nouns import CLOCKS, a_node, a_project


@pytest.fixture
async def desk(store: SqlStore) -> Desk:
    clock, logs = WorkingClock(), Logs()
    people = People(store=store, clock=clock, clocks=CLOCKS)
    conversation = Conversation(store=store, triage=PlainTriage(), clock=clock, clocks=CLOCKS)
    commands = BotCommands(
        store=store,
        conversation=conversation,
        cards=Cards(store=store, clock=clock, page_url=lambda task: f"http://page/{task}"),
        people=people,
        nodes_link=logs,
        files=MemoryFiles(),
        doors=WorkspaceDoors(store=store, clock=clock, clocks=CLOCKS),
        pulse=Pulse(
            work=SqlWork(store.database),
            clock=clock,
            sweeps=(),
            period_s=CLOCKS.sweep_s,
            boottime=float,
        ),
        clock=clock,
        clocks=CLOCKS,
    )
    desk = Desk(
        store=store,
        clock=clock,
        commands=commands,
        people=people,
        conversation=conversation,
        work=SqlWork(store.database),
        logs=logs,
    )
    clock.desk = desk
    await desk.work.join(REPLICA, url="", version="", lease_s=3600)
    projects: list[Project] = [
        a_project(),
        a_project(id=ProjectId("till"), repository="acme/till", checks=("make",)),
    ]
    await desk.put(*projects, a_node())
    return desk
