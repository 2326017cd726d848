"""Port `forge` on GitHub, as a GitHub App.

Facts that shape this file (PyGithub 2.10.0 read and run; docs.github.com):

- PyGithub cannot narrow an installation token to a repository; its requester can ask for one.
- Installation tokens live one hour and cannot be asked for less. We say `expires_at` earlier and
  trust the bearer (the node agent, the push gate) to stop then.
- Its default retry sleeps in the thread until a rate limit ends, up to an hour, and repeats POST.
  We retry what is safe to repeat, briefly, and hand every rate limit to the caller with its wait.
- It wants every URL of an answer on the host it asked.
- GitHub asks for a second between writes; a GitHub Enterprise Server has no such limit by default.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import quote

from github import Auth, Consts, Github, GithubIntegration
from github.GithubException import GithubException
from github.PullRequest import PullRequest
from github.Repository import Repository
from urllib3 import Retry

from adapters.github.errors import sentence, translate
from adapters.lane import Lane
from core.errors import AppError, ConfigError, CredentialError
from core.ports.forge import GitAccess, Pull, PullDraft, PullState, Scope
from core.project import RepoRef
from core.secret import Secret

USERNAME = "x-access-token"
"""What GitHub wants as the user name beside an installation token."""
TOKEN_LIFE_S_MAX = 3600
RENEW_S = 300
"""Our own tokens are renewed this long before their end."""
OUR_PERMISSIONS = {"contents": "read", "pull_requests": "write"}
"""Of the token for our own calls, on one repository: read branches, open pull requests."""
SOCKET_TIMEOUT_S = 15
TITLE_MAX = 256
BODY_MAX = 65_536
"""Characters. GitHub refuses more: "title is too long (maximum is 256 characters)", "body is too
long (maximum is 65536 characters)"."""
CALL_TIMEOUT_S = 90
"""Of one port call, which may be five requests with their retries and pauses."""
WORKERS = 4
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Session:
    """A client that may do `OUR_PERMISSIONS` in one repository."""

    client: Github
    until: datetime


@dataclass(slots=True, kw_only=True)
class GitHubForge:
    """Tokens, branches and pull requests. The SDK blocks, so each call runs in our lane.

    Attributes:
        web_url: Where pages and git are: `https://github.com`.
        now: The time, aware and in UTC.
    """

    app: GithubIntegration
    settings: dict[str, Any]
    web_url: str
    now: Callable[[], datetime]
    lane: Lane
    _installations: dict[str, int] = field(default_factory=dict)
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _making: Lock = field(default_factory=Lock)

    async def check(self) -> str:
        """Return the App's short name, to prove that its id and key fit together.

        Raises:
            ConfigError: If GitHub refuses them.
        """
        try:
            return await self._call(self._check)
        except CredentialError as error:
            raise ConfigError(f"GitHub refuses the App's id or private key. {error}") from error

    async def access(self, repo: RepoRef, *, scope: Scope, ttl_s: float) -> GitAccess:
        """See `Forge.access`."""
        return await self._call(self._access, repo, scope, ttl_s)

    async def default_branch(self, repo: RepoRef) -> str:
        """See `Forge.default_branch`."""
        return await self._call(self._default_branch, repo)

    async def head(self, repo: RepoRef, branch: str) -> str | None:
        """See `Forge.head`."""
        return await self._call(self._head, repo, branch)

    async def open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        """See `Forge.open_pull`. GitHub itself allows one open pull request per head and base.

        A title or body that is longer than GitHub takes is cut.
        """
        fitting = replace(
            draft, title=_cut(draft.title, TITLE_MAX), body=_cut(draft.body, BODY_MAX)
        )
        return await self._call(self._open_pull, repo, fitting)

    async def pull(self, repo: RepoRef, number: int) -> Pull:
        """See `Forge.pull`."""
        return await self._call(self._pull, repo, number)

    async def find_pull(self, repo: RepoRef, head: str) -> Pull | None:
        """See `Forge.find_pull`."""
        return await self._call(self._find_pull, repo, head)

    def close(self) -> None:
        """Let threads and connections go."""
        self.lane.close()
        for session in self._sessions.values():
            session.client.close()
        self.app.close()

    async def _call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self.lane.run(call, *args, **kwargs)
        except AppError:
            raise
        except Exception as error:  # noqa: BLE001  every kind is named in `translate`
            translate(error)

    def _check(self) -> str:
        return str(self.app.get_app().slug)

    def _access(self, repo: RepoRef, scope: Scope, ttl_s: float) -> GitAccess:
        asked_at = self.now()
        text, until = self._token(repo, {"contents": scope})
        life = timedelta(seconds=min(ttl_s, TOKEN_LIFE_S_MAX))
        return GitAccess(
            url=f"{self.web_url}/{quote(repo.owner)}/{quote(repo.name)}.git",
            username=USERNAME,
            token=Secret(text),
            expires_at=min(until, asked_at + life),
        )

    def _default_branch(self, repo: RepoRef) -> str:
        return _told(self._repository(repo).default_branch)

    def _head(self, repo: RepoRef, branch: str) -> str | None:
        # `git/ref` and not `branches`: GitHub redirects a renamed branch there.
        try:
            return self._repository(repo).get_git_ref(f"heads/{quote(branch)}").object.sha
        except GithubException as error:
            if error.status != 404:
                raise
            return None

    def _open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        repository = self._repository(repo)
        found = self._find(repository, draft.head, state="open")
        if found is None:
            found = self._create(repository, draft)
        if (found.title, found.body or "", found.base.ref) != (draft.title, draft.body, draft.base):
            found.edit(title=draft.title, body=draft.body, base=draft.base)
        return _pull(found)

    def _create(self, repository: Repository, draft: PullDraft) -> PullRequest:
        try:
            return repository.create_pull(
                draft.base, draft.head, title=draft.title, body=draft.body, draft=draft.draft
            )
        except GithubException as error:
            if error.status != 422 or "already exists" not in sentence(error):
                raise
            found = self._find(repository, draft.head, state="open")
            if found is None:
                raise
            return found

    def _pull(self, repo: RepoRef, number: int) -> Pull:
        return _pull(self._repository(repo).get_pull(number))

    def _find_pull(self, repo: RepoRef, head: str) -> Pull | None:
        repository = self._repository(repo)
        found = self._find(repository, head, state="open") or self._find(
            repository, head, state="all"
        )
        return None if found is None else _pull(found)

    def _find(self, repository: Repository, head: str, *, state: str) -> PullRequest | None:
        owner = repository.full_name.partition("/")[0]
        pulls = repository.get_pulls(
            state=state, head=f"{owner}:{head}", sort="created", direction="desc"
        )
        return next(iter(pulls), None)

    def _repository(self, repo: RepoRef) -> Repository:
        return self._client(repo).get_repo(str(repo))

    def _client(self, repo: RepoRef) -> Github:
        key = str(repo).lower()
        with self._making:
            session = self._sessions.get(key)
            if session is None or self.now() >= session.until - timedelta(seconds=RENEW_S):
                text, until = self._token(repo, OUR_PERMISSIONS)
                session = _Session(Github(auth=Auth.Token(text), lazy=True, **self.settings), until)
                self._sessions[key] = session
            return session.client

    def _token(self, repo: RepoRef, permissions: dict[str, str]) -> tuple[str, datetime]:
        """Ask for a token that opens `repo` alone, and nothing in it but `permissions`."""
        try:
            made = self._ask_token(repo, permissions)
        except GithubException as error:
            if error.status != 404 or self._installations.pop(str(repo), None) is None:
                raise
            made = self._ask_token(repo, permissions)  # The App was installed anew.
        return made["token"], datetime.fromisoformat(made["expires_at"])

    def _ask_token(self, repo: RepoRef, permissions: dict[str, str]) -> dict[str, str]:
        name = str(repo)
        if name not in self._installations:
            installed = self.app.get_repo_installation(repo.owner, repo.name)
            self._installations[name] = installed.id
        _, made = self.app.requester.requestJsonAndCheck(
            "POST",
            f"/app/installations/{self._installations[name]}/access_tokens",
            input={"repositories": [repo.name], "permissions": permissions},
        )
        return cast("dict[str, str]", made)


def build(
    *,
    app_id: str,
    private_key: Secret,
    now: Callable[[], datetime],
    api_url: str = Consts.DEFAULT_BASE_URL,
) -> GitHubForge:
    """Return the code host for an App.

    Args:
        app_id: The App's number or client id.
        private_key: PEM, as GitHub made it.
        now: The time, aware and in UTC.
        api_url: `https://{host}/api/v3` for a GitHub Enterprise Server.

    Raises:
        ConfigError: If the key is not a private key.
    """
    hosted = api_url == Consts.DEFAULT_BASE_URL
    settings: dict[str, Any] = {
        "base_url": api_url,
        "timeout": SOCKET_TIMEOUT_S,
        "retry": _retry(),
        "seconds_between_requests": 0.25 if hosted else 0,
        "seconds_between_writes": 1 if hosted else 0,
        "user_agent": "samovar",
    }
    auth = Auth.AppAuth(app_id, private_key.reveal())
    try:
        auth.create_jwt()
    except Exception as error:  # any kind that the key's parser knows
        raise ConfigError("The GitHub App's private key cannot be read as PEM.") from error
    return GitHubForge(
        app=GithubIntegration(auth=auth, **settings),
        settings=settings,
        web_url="https://github.com" if hosted else api_url.removesuffix("/api/v3"),
        now=now,
        lane=Lane("github", workers=WORKERS, timeout_s=CALL_TIMEOUT_S),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _told(value: T | None) -> T:
    """Return a field that every answer has. PyGithub hands out None where it is missing."""
    if value is None:
        raise ValueError("a field is missing")
    return value


def _retry() -> Retry:
    return Retry(
        total=2,
        backoff_factor=0.2,
        allowed_methods={"GET", "PATCH"},
        status_forcelist={500, 502, 503, 504},
        respect_retry_after_header=False,
        raise_on_status=False,
    )


def _pull(pull: PullRequest) -> Pull:
    state: PullState = "open" if pull.state == "open" else "closed"
    return Pull(
        number=_told(pull.number),
        url=_told(pull.html_url),
        state="merged" if pull.merged_at else state,
        draft=pull.draft,
        head=pull.head.ref,
        head_sha=_told(pull.head.sha),
        base=pull.base.ref,
        commits=pull.commits,
        additions=pull.additions,
        deletions=pull.deletions,
        changed_files=pull.changed_files,
    )
