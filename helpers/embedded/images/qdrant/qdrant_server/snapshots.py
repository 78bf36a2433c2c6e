"""Snapshots: one compressed archive a collection, with a manifest that says what is in it.

The engine preallocates its files (a write-ahead log of 2 x 32 MiB, payload pages of 32 MiB), so a
small collection is mostly holes: compression keeps the archive small, and unpacking leaves holes as
holes. An archive is not interchangeable with the official server's, and its manifest says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from . import API_VERSION
from .collection import CONFIG_FILE, Collection
from .errors import BadInput, NotFound
from .values import Json

FORMAT = "qdrant-edge-shard/1"
MANIFEST = "manifest.json"
CHUNK = 1024 * 1024
_ZEROS = bytes(CHUNK)


def take(collection: Collection, folder: Path) -> Json:
    """Archive a collection; it appears under its name only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    name = f"{collection.name}-{time.time_ns() // 1000 % 10**16}-{now:%Y-%m-%d-%H-%M-%S}.snapshot"
    partial = folder / f".{name}.partial"
    try:
        with collection.quiet(), tarfile.open(partial, "w:gz", compresslevel=1) as archive:
            _add_manifest(archive, collection)
            archive.add(collection.folder, "data")
        checksum = _sha256(partial)
        (folder / f"{name}.checksum").write_text(checksum)
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    return describe(folder / name)


def _add_manifest(archive: tarfile.TarFile, collection: Collection) -> None:
    manifest = {
        "format": FORMAT,
        "api_version": API_VERSION,
        "collection": collection.name,
        "config": collection.config,
        "points_count": collection.points_count(),
    }
    content = json.dumps(manifest).encode()
    header = tarfile.TarInfo(MANIFEST)
    header.size = len(content)
    archive.addfile(header, io.BytesIO(content))


def describe(path: Path) -> Json:
    state = path.stat()
    checksum = path.with_name(f"{path.name}.checksum")
    return {
        "name": path.name,
        "creation_time": datetime.fromtimestamp(state.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "size": state.st_size,
        "checksum": checksum.read_text() if checksum.exists() else None,
    }


def find(folder: Path, name: str) -> Path:
    """The file of a snapshot; only plain names, so that a path cannot lead out of the folder."""
    path = folder / name
    if Path(name).name != name or name.startswith(".") or not path.is_file():
        raise NotFound(f"Snapshot {name} not found")
    return path


def unpack(archive_path: Path, target: Path, *, checksum: str | None = None) -> Json:
    """Unpack an archive into a new folder and return its manifest; holes stay holes."""
    if checksum and checksum != _sha256(archive_path):
        raise BadInput("Snapshot checksum mismatch")
    try:
        with tarfile.open(archive_path, "r:gz") as archive:
            manifest = _read_manifest(archive)
            for member in archive:
                _extract(archive, member, target)
    except (tarfile.TarError, EOFError, OSError, json.JSONDecodeError) as error:
        raise BadInput(f"Snapshot cannot be read: {error}") from error
    if not (target / CONFIG_FILE).exists():
        raise BadInput("Snapshot holds no collection")
    return manifest


def _read_manifest(archive: tarfile.TarFile) -> Json:
    first = archive.next()
    file = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
    manifest = json.load(file) if file else {}
    if manifest.get("format") != FORMAT:
        raise BadInput(f"Snapshot is not of format {FORMAT}: this server restores only its own snapshots")
    return manifest


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    parts = Path(member.name).parts
    if parts[:1] != ("data",) or ".." in parts or not (member.isfile() or member.isdir()):
        return
    destination = target.joinpath(*parts[1:])
    if member.isdir():
        destination.mkdir(parents=True, exist_ok=True)
        return
    source = archive.extractfile(member)
    assert source is not None
    with destination.open("wb") as file:
        while chunk := source.read(CHUNK):
            if chunk == _ZEROS[: len(chunk)]:
                file.seek(len(chunk), 1)
            else:
                file.write(chunk)
        file.truncate(member.size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_folder(root: Path) -> Path:
    """A fresh folder beside the collections: swapped in by rename, removed at start if left over."""
    return root / f".recover-{uuid.uuid4()}"
