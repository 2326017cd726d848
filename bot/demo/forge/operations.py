"""What each operation of the API does. Names are GitHub's operation ids."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from bot.demo.forge.bodies import Json
from bot.demo.forge.records import CheckRecord, CommentRecord, PullRecord
from bot.demo.forge.repositories import GitError
from bot.demo.forge.tokens import GRANTED, installation_id
from bot.demo.forge.world import ApiError, Call

Result = tuple[int, Json | list[Json] | None]
"""Status and body; a list is cut into pages by whoever serves it."""


async def app(call: Call) -> Result:
    """Return the App."""
    call.need_app()
    return 200, call.world.bodies.app(call.world.tokens.app_id)


async def installation(call: Call) -> Result:
    """Return the installation that may reach a repository."""
    call.need_app()
    if not call.world.repositories.exists(call.name):
        raise ApiError(404, "Not Found")
    return 200, call.world.bodies.installation(call.world.tokens.app_id, call.path[0])


async def make_token(call: Call) -> Result:
    """Make an installation token, narrowed as asked."""
    call.need_app()
    world = call.world
    ours = [n for n in world.repositories.names() if _installed(n) == int(call.path[0])]
    if not ours:
        raise ApiError(404, "Not Found")
    wanted: list[str] = call.body.get("repositories") or []
    chosen = [name for name in ours if name.partition("/")[2] in wanted]
    if len(chosen) < len(set(wanted)):
        raise ApiError(
            422,
            "There is at least one repository that does not exist or is not accessible to the "
            "parent installation.",
        )
    permissions: Mapping[str, str] = call.body.get("permissions") or GRANTED
    if any(GRANTED.get(key) not in {value, "write"} for key, value in permissions.items()):
        raise ApiError(422, "The permissions requested are not granted to this installation.")
    text, token = world.tokens.issue(frozenset(chosen or ours), {"metadata": "read", **permissions})
    shown = [await _repository(call, name) for name in chosen]
    until = datetime.fromtimestamp(token.until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = world.bodies.token(text, permissions=token.permissions, until=until, chosen=shown)
    return 201, body


async def revoke_token(call: Call) -> Result:
    """End the token that asks."""
    if call.world.tokens.find(call.bearer) is None:
        raise ApiError(401, "Bad credentials")
    call.world.tokens.revoke(call.bearer)
    return 204, None


async def repository(call: Call) -> Result:
    """Return a repository."""
    call.need("metadata", "read")
    return 200, await _repository(call, call.name)


async def branch(call: Call) -> Result:
    """Return a branch."""
    call.need("contents", "read")
    sha = await call.world.repositories.find_head(call.name, call.path[2])
    if sha is None:
        raise ApiError(404, "Branch not found")
    commit = (await call.world.repositories.commits(call.name, sha, limit=1))[0]
    return 200, call.world.bodies.branch(call.name, call.path[2], commit)


async def ref(call: Call) -> Result:
    """Return a ref."""
    call.need("contents", "read")
    wanted = f"refs/{call.path[2]}"
    sha = (await call.world.repositories.refs(call.name)).get(wanted)
    if sha is None:
        raise ApiError(404, "Not Found")
    return 200, call.world.bodies.ref(call.name, wanted, sha)


async def commits(call: Call) -> Result:
    """Return the commits of a branch, newest first."""
    call.need("contents", "read")
    world = call.world
    tip = call.query.get("sha") or await world.repositories.default_branch(call.name)
    try:
        found = await world.repositories.commits(call.name, tip)
    except GitError as error:
        raise ApiError(404, "Not Found") from error
    return 200, world.bodies.commits(call.name, found, operation="repos/list-commits")


async def commit(call: Call) -> Result:
    """Return one commit."""
    call.need("contents", "read")
    repositories = call.world.repositories
    try:
        found = (await repositories.commits(call.name, call.path[2], limit=1))[0]
    except (GitError, IndexError) as error:
        raise ApiError(422, f"No commit found for SHA: {call.path[2]}") from error
    files = (
        await repositories.diff(call.name, f"{found.parents[0]}..{found.sha}")
        if found.parents
        else []
    )
    return 200, call.world.bodies.commit(call.name, found, files)


async def pulls(call: Call) -> Result:
    """Return pull requests: open ones unless asked otherwise, filtered by `owner:branch`."""
    call.need("pull_requests", "read")
    rows = [await call.world.follow(row) for row in call.world.records.pulls_of(call.name)]
    state = call.query.get("state", "open")
    rows = [row for row in rows if state in {row.state, "all"}]
    owner, _, head = call.query.get("head", "").partition(":")
    if head:
        rows = [row for row in rows if row.head == head and owner == call.path[0]]
    if "base" in call.query:
        rows = [row for row in rows if row.base == call.query["base"]]
    return 200, [await call.pull_body(row, "pulls/list") for row in rows]


async def make_pull(call: Call) -> Result:
    """Open a pull request."""
    call.need("pull_requests", "write")
    async with call.world.making:
        made = await _make_pull(call)
    return 201, await call.pull_body(made, "pulls/create")


async def _make_pull(call: Call) -> PullRecord:
    world, body = call.world, call.body
    _check_lengths(body)
    head, base = body["head"].rpartition(":")[2], body["base"]
    tips = [await world.repositories.find_head(call.name, name) for name in (head, base)]
    head_sha, base_sha = tips
    if head_sha is None or base_sha is None:
        field = "base" if head_sha else "head"
        raise _invalid({"field": field, "code": "invalid"})
    if await world.repositories.count(call.name, f"{base_sha}..{head_sha}") == 0:
        raise _invalid({"code": "custom", "message": f"No commits between {base} and {head}"})
    rows = [await world.follow(row) for row in world.records.pulls_of(call.name)]
    if any((row.head, row.base, row.state) == (head, base, "open") for row in rows):
        sentence = f"A pull request already exists for {call.path[0]}:{head}."
        raise _invalid({"code": "custom", "message": sentence})
    made = PullRecord(
        repository=call.name,
        number=world.records.next_number(call.name),
        head=head,
        base=base,
        head_sha=head_sha,
        base_sha=base_sha,
        title=body.get("title") or head,
        body=body.get("body") or "",
        draft=bool(body.get("draft")),
        created_at=world.stamp(),
        updated_at=world.stamp(),
    )
    world.records.pulls.append(made)
    world.records.save()
    return made


async def pull(call: Call) -> Result:
    """Return one pull request."""
    call.need("pull_requests", "read")
    return 200, await call.pull_body(await call.pull(), "pulls/get")


async def change_pull(call: Call) -> Result:
    """Change title, body, base or state of a pull request. Its draft flag is not changed here."""
    call.need("pull_requests", "write")
    _check_lengths(call.body)
    found = await call.pull()
    for key in {"title", "body", "base"} & call.body.keys():
        setattr(found, key, call.body[key] or "")
    state = call.body.get("state", found.state)
    if state != found.state and found.merged_at is None:
        found.state = state
        found.closed_at = call.world.stamp() if state == "closed" else None
    found.updated_at = call.world.stamp()
    call.world.records.save()
    return 200, await call.pull_body(found, "pulls/update")


async def pull_files(call: Call) -> Result:
    """Return the files that a pull request changes."""
    call.need("pull_requests", "read")
    found = await call.pull()
    files = await call.world.repositories.diff(call.name, found.change)
    return 200, call.world.bodies.files(call.name, found.head_sha, files)


async def pull_commits(call: Call) -> Result:
    """Return the commits of a pull request, oldest first."""
    call.need("pull_requests", "read")
    found = await call.pull()
    rows = (await call.world.repositories.commits(call.name, found.span))[::-1]
    return 200, call.world.bodies.commits(call.name, rows, operation="pulls/list-commits")


async def comments(call: Call) -> Result:
    """Return the comments below a pull request."""
    call.need("pull_requests", "read")
    found = await call.pull()
    rows = call.world.records.comments_of(call.name, found.number)
    make = call.world.bodies.comment
    return 200, [make(row, operation="issues/list-comments") for row in rows]


async def make_comment(call: Call) -> Result:
    """Comment on a pull request."""
    call.need("pull_requests", "write")
    _check_lengths(call.body)
    found, world = await call.pull(), call.world
    made = CommentRecord(
        id=world.records.next_id(),
        repository=call.name,
        number=found.number,
        body=call.body["body"],
        created_at=world.stamp(),
    )
    world.records.comments.append(made)
    world.records.save()
    return 201, world.bodies.comment(made, operation="issues/create-comment")


async def make_check(call: Call) -> Result:
    """Attach a check run to a commit."""
    call.need("checks", "write")
    world, body = call.world, call.body
    output = body.get("output") or {}
    conclusion = body.get("conclusion")
    made = CheckRecord(
        id=world.records.next_id(),
        repository=call.name,
        head_sha=body["head_sha"],
        name=body["name"],
        status="completed" if conclusion else body.get("status", "queued"),
        conclusion=conclusion,
        external_id=body.get("external_id", ""),
        title=output.get("title") or "",
        summary=output.get("summary") or "",
        created_at=world.stamp(),
    )
    world.records.checks.append(made)
    world.records.save()
    return 201, world.bodies.check(made)


async def checks(call: Call) -> Result:
    """Return the check runs of a commit."""
    call.need("checks", "read")
    try:
        sha = await call.world.repositories.run(call.name, "rev-parse", "--verify", call.path[2])
    except GitError as error:
        raise ApiError(422, f"No commit found for SHA: {call.path[2]}") from error
    rows = [call.world.bodies.check(row) for row in call.world.records.checks_of(call.name, sha)]
    return 200, {"total_count": len(rows), "check_runs": rows}


def _check_lengths(body: Json) -> None:
    for key, most in (("title", 256), ("body", 65_536)):
        if len(body.get(key) or "") > most:
            sentence = f"{key} is too long (maximum is {most} characters)"
            raise _invalid({"field": key, "code": "custom", "message": sentence})


def _invalid(fault: Json) -> ApiError:
    return ApiError(422, "Validation Failed", [{"resource": "PullRequest", **fault}])


def _installed(name: str) -> int:
    return installation_id(name.partition("/")[0])


async def _repository(call: Call, name: str) -> Json:
    return call.world.bodies.repository(name, await call.world.repositories.default_branch(name))


OPERATIONS: Mapping[str, Callable[[Call], Awaitable[Result]]] = {
    "apps/get-authenticated": app,
    "apps/get-repo-installation": installation,
    "apps/create-installation-access-token": make_token,
    "apps/revoke-installation-access-token": revoke_token,
    "repos/get": repository,
    "repos/get-branch": branch,
    "repos/list-commits": commits,
    "repos/get-commit": commit,
    "git/get-ref": ref,
    "pulls/list": pulls,
    "pulls/create": make_pull,
    "pulls/get": pull,
    "pulls/update": change_pull,
    "pulls/list-files": pull_files,
    "pulls/list-commits": pull_commits,
    "issues/list-comments": comments,
    "issues/create-comment": make_comment,
    "checks/create": make_check,
    "checks/list-for-ref": checks,
}
