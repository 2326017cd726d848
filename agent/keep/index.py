"""What git's index names: paths and blobs (gitformat-index(5), versions 2 to 4)."""

import struct
from collections.abc import Mapping

HEADER = 12
OID = slice(40, 60)
FLAGS = slice(60, 62)
EXTENDED = 0x4000


def read(data: bytes) -> Mapping[str, str]:
    """Return the blob of every path, one of them where a merge left several.

    What cannot be read names nothing: the index is a file of strangers.
    """
    if len(data) < HEADER or data[:4] != b"DIRC":
        return {}
    version, count = struct.unpack(">II", data[4:HEADER])
    found: dict[str, str] = {}
    at, path = HEADER, b""
    for _ in range(min(count, len(data) // 62) if version in {2, 3, 4} else 0):
        entry = data[at : at + 62]
        if len(entry) < 62:
            break
        flags = int.from_bytes(entry[FLAGS], "big")
        name_at = at + (64 if flags & EXTENDED else 62)
        if version == 4:
            strip, name_at = _varint(data, name_at)
            path = path[: max(0, len(path) - strip)]
        else:
            path = b""
        end = data.find(b"\0", name_at)
        if end < 0:
            break
        path += data[name_at:end]
        at = end + 1 if version == 4 else at + (end - at + 8) // 8 * 8
        found[path.decode(errors="surrogateescape")] = entry[OID].hex()
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = -1
    for place in range(at, min(at + 9, len(data))):
        value = ((value + 1) << 7) | (data[place] & 0x7F)
        if not data[place] & 0x80:
            return value, place + 1
    return 0, len(data)
