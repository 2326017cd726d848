"""Which files must not be committed for somebody who did not ask for it."""

import re
from pathlib import PurePosixPath

FILE_BYTES_MAX = 100 * 1024 * 1024
"""GitHub refuses larger files (docs.github.com, About large files on GitHub)."""

PATTERNS = (
    r"-----BEGIN ([A-Z]+ )?PRIVATE KEY( BLOCK)?-----",
    r"AKIA[0-9A-Z]{16}",
    r"gh[pousr]_[A-Za-z0-9]{36}",
    r"github_pat_[A-Za-z0-9_]{50}",
    r"glpat-[A-Za-z0-9_-]{20}",
    r"sk-ant-[A-Za-z0-9_-]{20}",
    r"xox[abprs]-[A-Za-z0-9-]{20}",
    r"wst_[A-Za-z0-9_-]{40}",
)
"""Extended regular expressions that git grep and Python read alike. The last is our own token."""

NAMES = re.compile(
    r"\.env(\..+)?|\.envrc|\.netrc|\.npmrc|\.pypirc|\.git-credentials|credentials\.json"
    r"|id_(rsa|dsa|ecdsa|ed25519)|.+\.(pem|key|p12|pfx|jks|keystore|ppk)|\.htpasswd|kubeconfig",
    re.IGNORECASE | re.DOTALL,
)
SAMPLES = re.compile(r"(.+[._-])?(example|sample|template|dist|defaults?|test)([._-].+)?", re.I)


def is_secret_name(path: str) -> bool:
    """Say whether a file with this name likely holds a secret."""
    name = PurePosixPath(path).name
    if NAMES.fullmatch(name) is None:
        return False
    return SAMPLES.fullmatch(name.removeprefix(".env").lstrip(".")) is None
