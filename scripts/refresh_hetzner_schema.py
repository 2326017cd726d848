"""Make the part of Hetzner Cloud's OpenAPI document that the stand-in API needs.

Source: github.com/MaximilianKoestler/hcloud-openapi (MIT), which takes the document from Hetzner's
own documentation. Usage, with a copy of its `openapi/hcloud.json`:

    python scripts/refresh_hetzner_schema.py FILE COMMIT

Writes `tests/fakes/hetzner/hcloud-openapi.json.gz`. What the API has changed since is in `_newer`.
"""

# ruff: noqa: INP001  scripts are run by path and are no package

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from excerpt import subset, write

TARGET = Path(__file__).parent.parent / "tests/fakes/hetzner/hcloud-openapi.json.gz"
OPERATIONS = {
    "/servers": ["get", "post"],
    "/servers/{id}": ["get", "delete"],
    "/server_types": ["get"],
}


def _newer(document: dict[str, Any]) -> None:
    """Bring a document of February 2026 to what docs.hetzner.cloud/changelog says since.

    2026-04: `server_types[].locations[]` tells `available` and `recommended`.
    2026-07-01: servers have a `location` and no `datacenter` any more.
    Also, `ssh_keys` are numbers or names, as the text beside the schema says.
    """
    schemas = document["components"]["schemas"]
    place = schemas["server_type_location"]
    for name in ("available", "recommended"):
        place["properties"][name] = {"type": "boolean", "example": True}
        place["required"].append(name)
    server = schemas["server"]
    del server["properties"]["datacenter"]
    server["required"] = sorted({*server["required"], "location"} - {"datacenter"})
    schemas["create_server_request"]["properties"]["ssh_keys"]["items"] = {}
    for name in ("image", "server_type"):
        del schemas["create_server_request"]["properties"][name]["type"]


def main() -> None:
    """Cut and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("commit")
    asked = parser.parse_args()
    raw = asked.file.read_bytes()
    whole = json.loads(raw)
    _newer(whole)
    document = subset(whole, OPERATIONS)
    document["x-source"] = {
        "repository": "MaximilianKoestler/hcloud-openapi",
        "commit": asked.commit,
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    write(document, TARGET)


if __name__ == "__main__":
    main()
