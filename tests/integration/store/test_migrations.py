"""Migrations: in step with the schema, once, forward, and gentle to what is there."""

import asyncio
import json
import re
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from adapters.store.database import Database
from adapters.store.migrate import MIGRATIONS, migrate, newest
from adapters.store.schema import META
from adapters.store.store import SqlStore, open_store
from adapters.store.transaction import Tx
from adapters.store.work import SqlWork
from core.access import BrowserSession, DoorKey, Person, Ticket
from core.decision import Decision, DecisionState
from core.errors import ConfigError
from core.event import Event
from core.ids import (
    DecisionId,
    PersonId,
    ReplicaId,
    RunId,
    TaskId,
    ThreadId,
    WorkspaceId,
)
from core.message import Post, Said, Thread
from core.ports.store import Insert, Noun, Tell, Wake
from core.preview import Preview, PreviewKey
from tests.fakes.nouns import (
    NOW,
    SESSION,
    a_chat,
    a_copy,
    a_node,
    a_project,
    a_prompt,
    a_recording,
    a_run,
    a_session,
    a_task,
    a_terminal,
    a_workspace,
    an_answer,
    an_event,
    at,
)
from tests.fakes.postgres import Postgres

ROWS = Path(__file__).parent / "rows"
"""`{revision}.json`: rows as that revision wrote them, `{table: [{column: value}]}`."""
LANE = ThreadId("web:web:1")
NOUNS: list[Noun] = [
    a_project(checks=("pytest",)),
    Person(id=PersonId("ana"), name="Ana", role="admin", created_at=NOW),
    a_task(),
    a_run(measured={"files": 3}),
    a_node(),
    a_workspace(steps=({"step": "fetch"},)),
    a_session(),
    a_prompt(),
    an_answer("o-1"),
    Thread(id=LANE, surface="web", channel="web", created_at=NOW, task_id=TaskId("T-1")),
    Said(
        key="k",
        surface="web",
        channel="web",
        message="1",
        thread=LANE,
        author=PersonId("ana"),
        text="Fix it",
        state="handled",
        created_at=NOW,
        data={"project": "web"},
    ),
    Post(key="p", lane=LANE, surface="web", kind="card", state="sent", created_at=NOW),
    Decision(
        id=DecisionId("d"),
        task_id=TaskId("T-1"),
        run_id=RunId("T-1.1"),
        session_id=SESSION,
        request="1",
        kind="question",
        title="Which?",
        state=DecisionState.OPEN,
        state_since=NOW,
        created_at=NOW,
        questions=({"text": "Which?"},),
    ),
    Ticket(id="t", kind="enrol", created_at=NOW, expires_at=at(60)),
    BrowserSession(id="b", person_id=PersonId("ana"), created_at=NOW, expires_at=at(60)),
]
"""One of each that a previous version may have written. A link is not kept by a restart."""
SINCE: dict[str, list[Noun]] = {
    "0002": [
        a_terminal(),
        DoorKey(
            id="k",
            kind="link",
            person_id=PersonId("ana"),
            workspace_id=WorkspaceId("wabcdefg"),
            created_at=NOW,
            expires_at=at(60),
        ),
    ],
    "0003": [
        a_copy(),
        a_chat(),
        a_recording(),
        Preview(
            id="wabcdefg:5173",
            workspace_id=WorkspaceId("wabcdefg"),
            port=5173,
            audience="project",
            created_at=NOW,
        ),
        PreviewKey(
            id="p",
            kind="link",
            workspace_id=WorkspaceId("wabcdefg"),
            port=5173,
            created_at=NOW,
            expires_at=at(60),
            until=at(60),
        ),
    ],
}
"""Kinds that came with a later revision than the first."""


def known(revision: str) -> list[Noun]:
    """Return one of each that a version of this revision may have written."""
    later = [noun for since, nouns in SINCE.items() if since <= revision for noun in nouns]
    return NOUNS + later


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return asyncio.run(server.create())


async def structure(url: str) -> set[str]:
    """Return everything that the database knows about its tables, as text."""
    database = Database(url)
    try:
        if not database.is_postgresql:
            query = "SELECT sql AS line FROM sqlite_master WHERE sql IS NOT NULL"
        else:
            query = """
                SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable,
                                 column_default) AS line
                FROM information_schema.columns WHERE table_schema = 'public'
                UNION SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
                UNION SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
                FROM pg_constraint WHERE connamespace = 'public'::regnamespace"""
        lines = {row["line"] for row in await database.read(sa.text(query))}
    finally:
        await database.close()
    return {
        re.sub(r"\s+", " ", line).replace("( ", "(").replace(" )", ")").replace('"', "")
        for line in lines
        if "alembic_version" not in line
    }


async def declare(url: str) -> None:
    database = Database(url)

    async def job(tx: Tx) -> None:
        await tx.run_sync(META.create_all)

    try:
        await database.write(job)
    finally:
        await database.close()


async def test_the_migrated_schema_is_the_declared_one(
    empty_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A new field of a noun needs a migration: `python -m adapters.store.draft "…"`."""
    assert await migrate(empty_url) != []
    assert await migrate(empty_url) == [], "running twice must change nothing"
    other = f"sqlite:///{tmp_path / 'declared.db'}"
    if "postgresql" in empty_url:
        other = await request.getfixturevalue("postgres_server").create()
    await declare(other)
    assert await structure(empty_url) == await structure(other)


MIGRATE = """
import asyncio, sys
from adapters.store.migrate import migrate
print(len(asyncio.run(migrate(sys.argv[1]))))
"""


async def test_three_processes_migrate_at_once_and_one_does_it(empty_url: str) -> None:
    async def one() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, empty_url, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode().strip()

    counts = await asyncio.gather(one(), one(), one())
    steps = len(list((MIGRATIONS / "versions").glob("[0-9]*.py")))
    assert sorted(counts) == ["0", "0", str(steps)]


async def test_a_database_without_tables_is_not_served(empty_url: str) -> None:
    with pytest.raises(ConfigError, match="samovar migrate"):
        async with open_store(empty_url):
            pass


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The migrations of the version after this one."""
    scripts = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    (scripts / "versions" / "9999_next.py").write_text(
        f'''"""A column more."""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "{head}"
branch_labels = depends_on = None

def upgrade() -> None:
    with op.batch_alter_table("task") as table:
        table.add_column(sa.Column("mood", sa.Text(), nullable=False, server_default="calm"))
    with op.batch_alter_table("run", recreate="auto") as table:
        table.alter_column("code", type_=sa.Text(), server_default="")
'''
    )
    return scripts


async def fill(store: SqlStore) -> None:
    for noun in known(HEAD):
        await store.commit(Insert(noun))
    await store.commit(
        Tell(Event(kind="task.created", subject="task:T-1", at=NOW)), Wake("run", "T-1.1")
    )
    await store.append([an_event(0, "message.text", text="Hello")])
    await store.book("T-1.1", "m", usd_micros=5, tokens={"input_tokens": 1})


async def is_whole(store: SqlStore, *, written_by: str | None = None) -> None:
    """Check that what `fill` of a revision wrote is there and that the work goes on."""
    for noun in known(written_by or HEAD):
        assert len(await store.find(type(noun))) == 1
    assert len(await store.events(after=0, limit=9)) == 1
    assert len(await store.session_events(SESSION, after=-1, limit=9)) == 1
    assert await store.spent("T-1.1") == {"T-1.1": 5}
    assert store.unreadable == {}
    work = SqlWork(store.database)
    await work.join(ReplicaId("new"), url="", version="2", lease_s=60)
    assert [one.key for one in await work.claim(ReplicaId("new"), ["run"], limit=9)] == ["T-1.1"]


async def test_t8_work_goes_on_after_an_upgrade_and_the_version_before_still_works(
    database_url: str, next_version: Path
) -> None:
    """Expand, then contract: what this version wrote and writes fits the next one's tables."""
    async with open_store(database_url) as store:
        await fill(store)
    assert await migrate(database_url, scripts=next_version) == ["9999 A column more"]
    database = Database(database_url)
    try:
        (task,) = await database.read(sa.text("SELECT id, mood FROM task"))
        assert (task["id"], task["mood"]) == ("T-1", "calm")
        await is_whole(SqlStore(database))
    finally:
        await database.close()


async def test_t8_an_unknown_revision_is_refused(database_url: str, next_version: Path) -> None:
    await migrate(database_url, scripts=next_version)
    with pytest.raises(ConfigError, match="does not know"):
        async with open_store(database_url):
            pass
    with pytest.raises(ConfigError, match="does not know"):
        await migrate(database_url)


async def test_t8_a_copy_is_made_first_and_the_version_before_serves_it(
    sqlite_url: str, next_version: Path, tmp_path: Path
) -> None:
    async with open_store(sqlite_url) as store:
        await fill(store)
    await migrate(sqlite_url, scripts=next_version)
    copy = tmp_path / "samovar.db.before-9999"
    assert copy.stat().st_mode & 0o777 == 0o600
    async with open_store(f"sqlite:///{copy}") as store:
        await is_whole(store)


async def test_t8_who_comes_second_leaves_the_copy_of_the_first_alone(
    sqlite_url: str, next_version: Path, tmp_path: Path
) -> None:
    async with open_store(sqlite_url) as store:
        await fill(store)
    both = await asyncio.gather(*(migrate(sqlite_url, scripts=next_version) for _ in range(2)))
    assert sorted(both) == [[], ["9999 A column more"]]
    async with open_store(f"sqlite:///{tmp_path / 'samovar.db.before-9999'}") as store:
        await is_whole(store)


async def test_t8_a_migration_that_fails_changes_nothing(
    database_url: str, next_version: Path
) -> None:
    script = next_version / "versions" / "9999_next.py"
    script.write_text(script.read_text() + "    raise RuntimeError('boom')\n")
    with pytest.raises(RuntimeError, match="boom"):
        await migrate(database_url, scripts=next_version)
    async with open_store(database_url) as store:
        await fill(store)
        await is_whole(store)


HEAD, *EARLIER = [step.revision for step in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


@pytest.mark.parametrize("revision", [HEAD, *EARLIER])
async def test_t8_rows_of_every_revision_are_read_by_this_version(
    empty_url: str, sqlite_url: str, revision: str
) -> None:
    if revision == HEAD:
        async with open_store(sqlite_url) as store:
            await fill(store)
            text = await dump(store)
    else:
        text = (ROWS / f"{revision}.json").read_text()
    await migrate(empty_url, to=revision)
    database = Database(empty_url)
    try:
        await database.write(lambda tx: insert(tx, json.loads(text)))
        await migrate(empty_url)
        await is_whole(SqlStore(database), written_by=revision)
    finally:
        await database.close()


def test_the_newest_revision_is_read_off_the_names_of_the_files() -> None:
    assert newest(MIGRATIONS) == HEAD


START = """
import asyncio, sys
from adapters.store.migrate import migrate
from adapters.store.store import open_store
async def main():
    assert await migrate(sys.argv[1]) == []
    async with open_store(sys.argv[1]):
        print(*sorted({"alembic", "asyncpg", "sqlalchemy.orm"} & {*sys.modules}))
asyncio.run(main())
"""


async def test_a_start_imports_what_it_needs(database_url: str) -> None:
    """Alembic for a migration, asyncpg and what belongs to it for PostgreSQL: 18 MB."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START, database_url), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    assert out.decode().split() == (
        [] if "sqlite" in database_url else ["asyncpg", "sqlalchemy.orm"]
    )


async def dump(store: SqlStore) -> str:
    """Return all rows of a SQLite database, to be kept in `rows/{revision}.json`."""
    rows = {}
    for table in META.sorted_tables:
        found = await store.database.read(sa.select(table))
        rows[table.name] = [{**row} for row in found]
    return json.dumps(rows, indent=1)


async def insert(tx: Tx, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Write rows into tables as they are in the database, whatever this version thinks."""
    tables = sa.MetaData()
    await tx.run_sync(tables.reflect)
    for name, values in rows.items():
        times = [c.name for c in tables.tables[name].columns if isinstance(c.type, sa.DateTime)]
        for row in values:
            for time in times:
                row[time] = row[time] and datetime.fromisoformat(row[time])
        if values:
            await tx.run(sa.insert(tables.tables[name]), values)


SERVE = """
import asyncio, sys
from adapters.store.store import open_store
async def main():
    async with open_store(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


async def test_a_second_process_on_one_file_refuses_to_start(
    sqlite_url: str, sqlite_template: Path
) -> None:
    del sqlite_template
    first = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVE,
        sqlite_url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert first.stdout is not None
    assert await first.stdout.readline() == b"open\n"
    with pytest.raises(ConfigError, match=f"process {first.pid}"):
        async with open_store(sqlite_url):
            pass
    first.kill()
    await first.wait()
    async with open_store(sqlite_url) as store:
        await store.now()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "postgresql://x/y"],
)
async def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Database(url)
