"""All collections of a server: loading at start, aliases, snapshots, upkeep in the background."""

from __future__ import annotations

import http.client
import json
import logging
import re
import shutil
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from . import snapshots
from .collection import CONFIG_FILE, Collection
from .errors import BadFormat, BadInput, Conflict, InvalidPath, Loading, NotFound, engine_errors
from .files import write_json
from .settings import Settings
from .values import Json, text

log = logging.getLogger("qdrant")
_NAME = re.compile(r'[^<>:"/\\|?*\x00-\x1f]{1,255}')
DOWNLOAD_TIMEOUT_S = 300
UPKEEP_INTERVAL_S = 1.0


class Storage:
    """The state behind the API. Not usable before `load` has finished: every call says so."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.storage_path / "collections"
        self.snapshots_root = settings.snapshots_path
        self.temporary = settings.storage_path / "tmp"
        self._aliases_file = settings.storage_path / "aliases.json"
        self._collections: dict[str, Collection] = {}
        self._aliases: dict[str, str] = {}
        self._lock = threading.RLock()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._to_load = 0

    # -- life ---------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    def load(self) -> None:
        """Open every collection on disk; leftovers of interrupted operations are removed first."""
        started = time.monotonic()
        for folder in (self.root, self.snapshots_root, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in [
            f for f in self.root.iterdir() if not (f / CONFIG_FILE).exists() or f.name.startswith(".")
        ]:
            log.warning("Removing %s, left over from an interrupted operation", folder.name)
            shutil.rmtree(folder)
        folders = sorted(self.root.iterdir())
        self._to_load = len(folders)
        for folder in folders:
            log.info("Loading collection: %s", folder.name)
            self._collections[folder.name] = Collection.load(folder.name, folder)
        if self._aliases_file.exists():
            self._aliases = json.loads(self._aliases_file.read_text())
        self._ready.set()
        log.info("%d collections loaded in %.2f s", len(folders), time.monotonic() - started)

    def upkeep(self) -> None:
        """Flush and optimize until the server stops; runs in a thread of its own."""
        while not self._stop.wait(UPKEEP_INTERVAL_S):
            for collection in self.collections():
                try:
                    collection.maintain(time.monotonic())
                except Exception:
                    log.exception("Upkeep of collection %s failed", collection.name)

    def close(self) -> None:
        self._stop.set()
        for collection in self.collections():
            collection.close()

    def _require_ready(self) -> None:
        if not self._ready.is_set():
            raise Loading(f"collections are loading, {len(self._collections)} of {self._to_load} done")

    # -- collections --------------------------------------------------------------------------

    def collections(self) -> list[Collection]:
        with self._lock:
            return [self._collections[name] for name in sorted(self._collections)]

    def get(self, name: str) -> Collection:
        """A collection by its name or one of its aliases."""
        self._require_ready()
        with self._lock:
            found = self._collections.get(self._aliases.get(name, name))
        if found is None:
            raise NotFound(f"Collection `{name}` doesn't exist!")
        return found

    def exists(self, name: str) -> bool:
        self._require_ready()
        return self._aliases.get(name, name) in self._collections

    def create(self, name: str, config: Json) -> None:
        self._require_ready()
        _check_name(name)
        with self._lock:
            if name in self._collections or name in self._aliases:
                raise Conflict(f"Collection `{name}` already exists!")
            self._collections[name] = Collection.create(name, self.root / name, config)

    def delete(self, name: str) -> bool:
        self._require_ready()
        with self._lock:
            collection = self._collections.pop(name, None)
            if collection is None:
                return False
            collection.close()
            self._discard(collection.folder)
            self._save_aliases({a: c for a, c in self._aliases.items() if c != name})
        return True

    def _discard(self, folder: Path) -> None:
        """Rename, then remove: a crash in between leaves nothing that looks like a collection."""
        away = folder.with_name(f".deleted-{uuid.uuid4()}")
        folder.rename(away)
        shutil.rmtree(away)

    # -- aliases ------------------------------------------------------------------------------

    def aliases(self, collection: str | None = None) -> Json:
        self._require_ready()
        pairs = sorted(self._aliases.items())
        return {
            "aliases": [
                {"alias_name": a, "collection_name": c}
                for a, c in pairs
                if collection is None or c == collection
            ]
        }

    def change_aliases(self, actions: list[Json]) -> None:
        """All changes or none."""
        self._require_ready()
        with self._lock:
            aliases = dict(self._aliases)
            for action in actions:
                if not isinstance(action, dict):
                    raise BadFormat(f"an alias action must be an object, not {type(action).__name__}")
                self._change_alias(aliases, action)
            self._save_aliases(aliases)

    def _change_alias(self, aliases: dict[str, str], action: Json) -> None:
        if body := action.get("create_alias"):
            target, alias = text(body, "collection_name"), text(body, "alias_name")
            if target not in self._collections:
                raise NotFound(f"Collection `{target}` doesn't exist!")
            if alias in self._collections:
                raise Conflict(f"Collection `{alias}` already exists!")
            aliases[alias] = target
        elif body := action.get("rename_alias"):
            old = text(body, "old_alias_name")
            if old not in aliases:
                raise NotFound(f"Alias {old} does not exists!")
            aliases[text(body, "new_alias_name")] = aliases.pop(old)
        elif body := action.get("delete_alias"):
            aliases.pop(text(body, "alias_name"), None)
        else:
            raise BadInput(f"unknown alias action {', '.join(action)}")

    def _save_aliases(self, aliases: dict[str, str]) -> None:
        if aliases != self._aliases:
            write_json(self._aliases_file, aliases)
            self._aliases = aliases

    # -- snapshots ----------------------------------------------------------------------------

    def snapshots_of(self, name: str) -> Path:
        return self.snapshots_root / self.get(name).name

    def recover(self, name: str, archive: Path, *, checksum: str | None = None) -> None:
        """Put a collection in place from an archive; what is there now goes only when the new one opens."""
        self._require_ready()
        name = self._aliases.get(name, name)
        _check_name(name)
        target = snapshots.temporary_folder(self.root)
        target.mkdir()
        try:
            manifest = snapshots.unpack(archive, target, checksum=checksum)
            self._check_compatible(name, manifest)
            with engine_errors():
                Collection.load(name, target).close()
            with self._lock:
                if current := self._collections.pop(name, None):
                    current.close()
                    self._discard(current.folder)
                target.rename(self.root / name)
                self._collections[name] = Collection.load(name, self.root / name)
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def _check_compatible(self, name: str, manifest: Json) -> None:
        current = self._collections.get(name)
        if current and current.config.get("vectors") != manifest["config"].get("vectors"):
            raise BadInput(
                f"Snapshot is not compatible with existing collection: it holds `{manifest['collection']}` "
                f"with vectors {manifest['config'].get('vectors')}"
            )

    def fetch(self, location: str, *, api_key: str | None = None) -> tuple[Path, bool]:
        """The file behind a snapshot location (`file://` or `http(s)://`), and whether it is temporary."""
        if location.startswith("file://"):
            path = Path(location.removeprefix("file://"))
            if not path.is_file():
                raise BadInput(f"Snapshot file {location} does not exist")
            return path, False
        if not location.startswith(("http://", "https://")):
            raise BadInput(f"Invalid snapshot location {location}: file:// or http(s):// is expected")
        self.temporary.mkdir(parents=True, exist_ok=True)
        target = self.temporary / f"{uuid.uuid4()}.snapshot"
        try:
            request = urllib.request.Request(location, headers={"api-key": api_key} if api_key else {})
            with (
                urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_S) as answer,
                target.open("wb") as file,
            ):
                shutil.copyfileobj(answer, file, snapshots.CHUNK)
        except (OSError, ValueError, http.client.HTTPException) as error:
            target.unlink(missing_ok=True)
            raise BadInput(f"Failed to download snapshot from {location}: {error}") from error
        return target, True

    def vector_of(self, collection: Collection) -> Any:
        """How queries on a collection find the vector of a point they name, `lookup_from` included."""

        def find(identifier: Any, using: str | None, lookup: Json | None) -> Any:
            if not lookup:
                return collection.vector_of(identifier, using)
            return self.get(text(lookup, "collection")).vector_of(identifier, lookup.get("vector") or using)

        return find


def _check_name(name: str) -> None:
    """A collection's name is its folder's name."""
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise InvalidPath(f"[collection_name: value {name!r} is not a valid collection name]")
