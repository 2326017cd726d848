"""Who may do what at the stand-in: the App's signed tokens and the tokens of its installations."""

import base64
import binascii
import secrets
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import jwt

Level = Literal["read", "write"]
GRANTED: Mapping[str, Level] = {
    "checks": "write",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
}
"""What the App was given when it was installed."""
LIFE_S = 3600
"""GitHub's installation tokens live one hour, whoever asks
(docs.github.com, "Generating an installation access token for a GitHub App")."""
JWT_LIFE_S_MAX = 600 + 60
"""Ten minutes at most, and a minute for clocks that differ
(docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An installation token.

    Attributes:
        repositories: `owner/name` of each repository that it opens.
        until: Seconds of the epoch.
    """

    repositories: frozenset[str]
    permissions: Mapping[str, str]
    until: float

    def may(self, permission: str, level: Level) -> bool:
        """Say whether the token carries `permission` at `level` or above."""
        have = self.permissions.get(permission)
        return have in {"write", level}


def installation_id(owner: str) -> int:
    """Return the one installation of an owner: the same number in every life of the stand-in."""
    return zlib.crc32(owner.encode()) % 90_000_000 + 10_000_000


@dataclass(slots=True, kw_only=True)
class Tokens:
    """The tokens that were handed out."""

    app_id: str
    app_public_key: str
    now: Callable[[], float]
    _issued: dict[str, Token] = field(default_factory=dict)

    def is_app(self, bearer: str) -> bool:
        """Say whether `bearer` is a fresh token signed with the App's key."""
        options: dict[str, object] = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        try:
            claims = jwt.decode(
                bearer,
                self.app_public_key,
                algorithms=["RS256"],
                options=options,  # type: ignore[arg-type]  # a plain dict is accepted
            )
        except jwt.InvalidTokenError:
            return False
        fresh = claims["iat"] - 60 <= self.now() < claims["exp"]
        short = claims["exp"] - claims["iat"] <= JWT_LIFE_S_MAX
        return str(claims["iss"]) == self.app_id and fresh and short

    def issue(
        self, repositories: frozenset[str], permissions: Mapping[str, str]
    ) -> tuple[str, Token]:
        """Make a token."""
        text = f"ghs_{secrets.token_hex(18)}"
        token = Token(repositories=repositories, permissions=permissions, until=self.now() + LIFE_S)
        self._issued[text] = token
        return text, token

    def find(self, text: str) -> Token | None:
        """Return the living token that `text` stands for."""
        token = self._issued.get(text)
        return token if token and self.now() < token.until else None

    def revoke(self, text: str) -> None:
        """Let a token end now."""
        self._issued.pop(text, None)


def credential(header: str) -> str:
    """Return the secret of an Authorization header, whichever scheme it uses; may be empty."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return rest.strip()
    try:
        pair = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return pair.partition(":")[2]
