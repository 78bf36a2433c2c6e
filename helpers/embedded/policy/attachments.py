"""Which pod has which address, from the CNI itself, before the API knows.

The kubelet reports a pod's address only after its containers were started; a pod known by then
alone would start without a network. libcni writes the result of each ADD to a cache before the
containers start, with the pod's UID in it; that cache is read here.
https://github.com/containernetworking/cni/blob/v1.3.0/libcni/api.go (cachedInfo)
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

POLL_S = 0.03
# A folder's time stamp is coarse: it may look unchanged although a file was added just after a look.
_SETTLE_S = 0.5


class Attachments:
    """The cache folder's content as a map from pod UID to address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[str, str] | None] = {}
        self._stamp = -1
        self._is_half_written = False

    def poll(self) -> dict[str, str] | None:
        """The map, if the folder may have changed since the last call; otherwise None."""
        try:
            stamp = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        is_settled = stamp == self._stamp and time.time() - stamp / 1e9 > _SETTLE_S
        if is_settled and not self._is_half_written:
            return None
        self._stamp = stamp
        with os.scandir(self._folder) as entries:
            paths = [Path(entry.path) for entry in sorted(entries, key=_modified)]
        known, self._read, self._is_half_written = self._read, {}, False
        for path in paths:
            self._take(path, known)
        return dict(pair for pair in self._read.values() if pair)

    def _take(self, path: Path, known: dict[str, tuple[str, str] | None]) -> None:
        """Remember one cached result: an entry is written once, so one that was read stays as it is."""
        if path.name in known:
            self._read[path.name] = known[path.name]
            return
        try:
            self._read[path.name] = attachment_of(json.loads(path.read_text()))
        except FileNotFoundError:
            return
        except ValueError:
            self._is_half_written = True


def _modified(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def attachment_of(cached: dict[str, Any]) -> tuple[str, str] | None:
    """Pod UID and IPv4 address in one entry of libcni's cache; None for the pod's loopback, cached too."""
    if cached.get("ifName") == "lo":
        return None
    arguments = {pair[0]: pair[1] for pair in cached.get("cniArgs") or [] if len(pair) == 2}
    uid = arguments.get("K8S_POD_UID")
    for entry in (cached.get("result") or {}).get("ips") or []:
        address = str(entry.get("address", "")).partition("/")[0]
        if uid and address and ":" not in address:
            return uid, address
    return None


def follow_attachments(
    folder: Path, tell: Callable[[dict[str, str]], None], stop: threading.Event, *, poll_s: float = POLL_S
) -> None:
    """Tell of every change of the folder until `stop` is set."""
    attachments = Attachments(folder)
    while not stop.is_set():
        try:
            if (current := attachments.poll()) is not None:
                tell(current)
        except OSError as fault:
            log.warning("cannot read %s: %s", folder, fault)
        stop.wait(poll_s)
