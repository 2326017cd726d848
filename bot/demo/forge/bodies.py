"""Answers: GitHub's own example of each, with our facts laid over it (pure).

Nothing here invents a field. A fact is laid over a key that the example has; keys of examples that
their schema refuses (`language` is missing, `requested_teams` lacks `type`) are set or emptied.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from bot.demo.forge.diff import FileDiff
from bot.demo.forge.records import CheckRecord, CommentRecord, PullRecord
from bot.demo.forge.repositories import Commit
from bot.demo.forge.tokens import GRANTED, installation_id
from bot.demo.openapi import Schema

Json = dict[str, Any]
T = TypeVar("T")
APP_SLUG = "samovar-demo"
EXAMPLE_REPOSITORIES = ("octocat/Hello-World", "octocat/hello-world", "github/hello-world")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big a pull request is."""

    commits: int
    additions: int
    deletions: int
    changed_files: int


@dataclass(frozen=True, slots=True)
class Bodies:
    """Makes the bodies of answers. URLs are GitHub's; `localised` moves them to this host."""

    schema: Schema

    def app(self, app_id: str) -> Json:
        """Return the App itself."""
        body: Json = self.schema.example("apps/get-authenticated", 200)
        return body | {"id": int(app_id), "slug": APP_SLUG, "permissions": dict(GRANTED)}

    def installation(self, app_id: str, owner: str) -> Json:
        """Return the installation of the App at an owner."""
        body: Json = self.schema.example("apps/get-repo-installation", 200)
        body["account"]["login"] = owner
        body["html_url"] = f"https://github.com/organizations/{owner}/settings/installations/1"
        number = installation_id(owner)
        return body | {
            "id": number,
            "app_id": int(app_id),
            "app_slug": APP_SLUG,
            "permissions": dict(GRANTED),
            "access_tokens_url": f"https://api.github.com/app/installations/{number}/access_tokens",
        }

    def token(
        self, text: str, *, permissions: Mapping[str, str], until: str, chosen: list[Json]
    ) -> Json:
        """Return an installation token; `chosen` is empty if it opens every repository."""
        body: Json = self.schema.example("apps/create-installation-access-token", 201)
        body |= {"token": text, "expires_at": until, "permissions": dict(permissions)}
        if not chosen:
            del body["repositories"]
        else:
            body["repositories"] = chosen
        return body | {"repository_selection": "selected" if chosen else "all"}

    def repository(self, name: str, branch: str) -> Json:
        """Return a repository in full."""
        body: Json = self._of("repos/get", 200, name)
        for key in ("parent", "source", "template_repository"):
            del body[key]
        return _owned(body, name, branch) | {"language": None}

    def branch(self, name: str, branch: str, commit: Commit) -> Json:
        """Return a branch with the commit at its tip."""
        body: Json = self._of("repos/get-branch", 200, name)
        body = _renamed(body, "branches/main", f"branches/{branch}")
        body = _renamed(body, "tree/main", f"tree/{branch}")
        return body | {"name": branch, "commit": _committed(body["commit"], commit)}

    def ref(self, name: str, ref: str, sha: str) -> Json:
        """Return a ref."""
        body: Json = self._of("git/get-ref", 200, name)
        body = _renamed(body, "heads/featureA", ref.removeprefix("refs/"))
        return _renamed(body, body["object"]["sha"], sha)

    def commits(self, name: str, commits: list[Commit], *, operation: str) -> list[Json]:
        """Return commits as `repos/list-commits` and `pulls/list-commits` list them."""
        return [_committed(self._of(operation, 200, name)[0], commit) for commit in commits]

    def commit(self, name: str, commit: Commit, files: list[FileDiff]) -> Json:
        """Return one commit with its files."""
        body = _committed(self._of("repos/get-commit", 200, name), commit)
        plus, minus = sum(f.additions for f in files), sum(f.deletions for f in files)
        stats = {"additions": plus, "deletions": minus, "total": plus + minus}
        return body | {"stats": stats, "files": self.files(name, commit.sha, files)}

    def files(self, name: str, sha: str, files: list[FileDiff]) -> list[Json]:
        """Return what a change does to each file."""
        return [self._file(name, sha, file) for file in files]

    def _file(self, name: str, sha: str, file: FileDiff) -> Json:
        body: Json = self._of("pulls/list-files", 200, name)[0]
        body = _renamed(body, "6dcb09b5b57875f334f61aebed695e2e4193db5e", sha)
        body = _renamed(body, "file1.txt", quote(file.path))
        body |= {
            "sha": file.blob or None,
            "filename": file.path,
            "status": file.status,
            "additions": file.additions,
            "deletions": file.deletions,
            "changes": file.additions + file.deletions,
            "patch": file.patch,
        }
        if not file.patch:
            del body["patch"]
        return body | ({"previous_filename": file.was} if file.status == "renamed" else {})

    def pull(
        self, pull: PullRecord, size: Size, *, comments: int, operation: str, branch: str
    ) -> Json:
        """Return a pull request as `operation` shows it: listed ones have no numbers."""
        status = 201 if operation == "pulls/create" else 200
        example = self._of(operation, status, pull.repository)
        body: Json = example[0] if isinstance(example, list) else example
        body = _renamed(body, "/1347", f"/{pull.number}")
        body = _renamed(body, "6dcb09b5b57875f334f61aebed695e2e4193db5e", pull.head_sha)
        facts = _facts(pull) | {
            "commits": size.commits,
            "additions": size.additions,
            "deletions": size.deletions,
            "changed_files": size.changed_files,
            "comments": comments,
        }
        body |= {key: value for key, value in facts.items() if key in body}
        owner = pull.repository.partition("/")[0]
        for side, ref, sha in (
            ("head", pull.head, pull.head_sha),
            ("base", pull.base, pull.base_sha),
        ):
            body[side] |= {"ref": ref, "sha": sha, "label": f"{owner}:{ref}"}
            body[side]["repo"] = _owned(body[side]["repo"], pull.repository, branch)
        body["user"] |= {"login": f"{APP_SLUG}[bot]", "type": "Bot"}
        return body

    def comment(self, comment: CommentRecord, *, operation: str) -> Json:
        """Return a comment."""
        example = self._of(
            operation, 201 if operation.endswith("create-comment") else 200, comment.repository
        )
        body: Json = example[0] if isinstance(example, list) else example
        body = _renamed(body, "/1347", f"/{comment.number}")
        body["user"] |= {"login": f"{APP_SLUG}[bot]", "type": "Bot"}
        return body | {
            "id": comment.id,
            "body": comment.body,
            "created_at": comment.created_at,
            "updated_at": comment.created_at,
        }

    def check(self, check: CheckRecord) -> Json:
        """Return a check run."""
        body: Json = self._of("checks/create", 201, check.repository)
        body["output"] |= {"title": check.title, "summary": check.summary, "text": None}
        body["output"]["annotations_count"] = 0
        return body | {
            "id": check.id,
            "name": check.name,
            "head_sha": check.head_sha,
            "status": check.status,
            "conclusion": check.conclusion,
            "external_id": check.external_id,
            "started_at": check.created_at,
            "completed_at": check.created_at if check.conclusion else None,
            "pull_requests": [],
        }

    def _of(self, operation: str, status: int, name: str) -> Any:
        example = self.schema.example(operation, status)
        for was in EXAMPLE_REPOSITORIES:
            example = _renamed(example, was, name)
        return example


def _facts(pull: PullRecord) -> Json:
    return {
        "id": pull.number,
        "number": pull.number,
        "state": pull.state,
        "title": pull.title,
        "body": pull.body,
        "draft": pull.draft,
        "locked": False,
        "active_lock_reason": None,
        "assignee": None,
        "assignees": [],
        "labels": [],
        "milestone": None,
        "requested_reviewers": [],
        "requested_teams": [],
        "review_comments": 0,
        "created_at": pull.created_at,
        "updated_at": pull.updated_at,
        "closed_at": pull.closed_at,
        "merged_at": pull.merged_at,
        "merge_commit_sha": pull.merged_sha or None,
        "merged": pull.merged_at is not None,
        "merged_by": None,
    }


def _owned(body: Json, name: str, branch: str) -> Json:
    owner, _, short = name.partition("/")
    body["owner"]["login"] = owner
    return body | {"name": short, "full_name": name, "default_branch": branch}


def _committed(body: Json, commit: Commit) -> Json:
    body = _renamed(body, body["sha"], commit.sha)
    parent = {key: body["parents"][0][key] for key in ("sha", "url")} if body["parents"] else {}
    body["parents"] = [_renamed(parent, parent["sha"], sha) for sha in commit.parents]
    inner = body["commit"]
    tree = inner["tree"]
    inner |= {
        "message": commit.message,
        "comment_count": 0,
        "tree": _renamed(tree, tree["sha"], commit.tree),
        "author": _person(commit.author, commit.author_email, commit.authored_at),
        "committer": _person(commit.committer, commit.committer_email, commit.committed_at),
    }
    return body | {"sha": commit.sha, "author": None, "committer": None}


def _person(name: str, email: str, at: str) -> Json:
    return {"name": name, "email": email, "date": at}


def _renamed(body: T, was: str, now: str) -> T:
    """Replace a text everywhere in `body`, keys and values."""
    renamed: T = json.loads(json.dumps(body).replace(was, json.dumps(now)[1:-1]))
    return renamed
