"""What a server's own container sees of the model it serves; one line of JSON. It leans on nothing but Python.

Whoever looks runs this text in the learner's pod: `python3 -c TEXT PATH EMPTY_DIR…`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

LIST, WEIGHTS = "SHA256SUMS", "model.safetensors"


def main(path: str, empty_dirs: list[str]) -> dict[str, object]:
    """Where the path leads, whether all files are there and whole, who may write, and what the pod's own volumes hold."""
    found: dict[str, object] = {"link": _link(path), "uid": os.getuid()}
    found |= {"own": sum(_bytes(place) for place in empty_dirs), "read_only": _mounted_read_only(path)}
    try:
        listed = Path(path, LIST).read_bytes()
        weights = Path(path, WEIGHTS).stat()
    except OSError as error:
        return {**found, "missing": f"{error.filename}: {error.strerror}"}
    found |= {"model": hashlib.sha256(listed).hexdigest()[:12], "broken": _broken(path, listed.decode())}
    found |= {"bytes": _bytes(path), "inode": f"{weights.st_dev}:{weights.st_ino}", "write": _written(path)}
    return {**found, "owner": _owner(str(found["link"]))}


def _link(path: str) -> str:
    return str(Path(path).readlink()) if Path(path).is_symlink() else ""


def _bytes(path: str) -> int:
    """What files under a path take on their disk; links are not followed, but for the path itself."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            total += Path(folder, name).lstat().st_blocks * 512
    return total


def _broken(path: str, listed: str) -> list[str]:
    """The files that are not what the list says of them."""
    wrong = []
    for line in listed.splitlines():
        wanted, name = line.split(maxsplit=1)
        try:
            with Path(path, name).open("rb") as stream:
                is_right = hashlib.file_digest(stream, "sha256").hexdigest() == wanted
        except OSError:
            is_right = False
        if not is_right:
            wrong.append(name)
    return wrong


def _written(path: str) -> str:
    """What became of a new file there: `written`, or why not."""
    trial = Path(path, ".course-trial")
    try:
        trial.write_bytes(b"trial")
        trial.unlink()
    except OSError as error:
        return error.strerror or "refused"
    return "written"


def _mounted_read_only(path: str) -> bool:
    """Whether the mount in which the path itself lies, not what a link there leads to, is read-only."""
    best, options = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if (path == words[4] or path.startswith(words[4].rstrip("/") + "/")) and len(words[4]) >= len(best):
            best, options = words[4], words[5]
    return "ro" in options.split(",")


def _owner(link: str) -> int | None:
    """Whose process a link into /proc leads to."""
    words = link.split("/")
    if len(words) < 3 or words[1] != "proc":
        return None
    return Path("/proc", words[2]).stat().st_uid


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2:])))
