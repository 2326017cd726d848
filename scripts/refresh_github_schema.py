"""Make the part of GitHub's OpenAPI document that the stand-in code host needs.

Source: the npm package `@octokit/openapi` (MIT), which repackages GitHub's own description of its
REST API. Usage, with npm on the PATH:

    python scripts/refresh_github_schema.py [VERSION]

Writes `bot/demo/forge/github-openapi.json.gz`. The package's name, version and checksum are kept
inside the file under `x-source`; the notice beside it names them for people.
"""

# ruff: noqa: INP001  scripts are run by path and are no package

import argparse
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from excerpt import subset, write

PACKAGE = "@octokit/openapi"
VERSION = "23.0.2"
MEMBER = "package/generated/api.github.com.json"
TARGET = Path(__file__).parent.parent / "bot/demo/forge/github-openapi.json.gz"
REPO = "/repos/{owner}/{repo}"
OPERATIONS = {
    "/app": ["get"],
    "/app/installations/{installation_id}/access_tokens": ["post"],
    "/installation/token": ["delete"],
    REPO: ["get"],
    f"{REPO}/installation": ["get"],
    f"{REPO}/branches/{{branch}}": ["get"],
    f"{REPO}/check-runs": ["post"],
    f"{REPO}/commits": ["get"],
    f"{REPO}/commits/{{ref}}": ["get"],
    f"{REPO}/commits/{{ref}}/check-runs": ["get"],
    f"{REPO}/git/ref/{{ref}}": ["get"],
    f"{REPO}/issues/{{issue_number}}/comments": ["get", "post"],
    f"{REPO}/pulls": ["get", "post"],
    f"{REPO}/pulls/{{pull_number}}": ["get", "patch"],
    f"{REPO}/pulls/{{pull_number}}/commits": ["get"],
    f"{REPO}/pulls/{{pull_number}}/files": ["get"],
}


def fetch(version: str, folder: Path) -> Path:
    """Download the package with npm and return its archive."""
    command = ["npm", "pack", "--silent", f"{PACKAGE}@{version}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.tgz"))


def main() -> None:
    """Download, cut and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("version", nargs="?", default=VERSION)
    version = parser.parse_args().version
    with tempfile.TemporaryDirectory() as folder:
        archive = fetch(version, Path(folder))
        checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
        with tarfile.open(archive) as tar:
            member = tar.extractfile(MEMBER)
            if member is None:
                raise SystemExit(f"{archive.name} has no {MEMBER}")
            document = subset(json.load(member), OPERATIONS)
    document["x-source"] = {"package": PACKAGE, "version": version, "sha256": checksum}
    write(document, TARGET)


if __name__ == "__main__":
    main()
