"""What every witness's program stands on, in its pod: one request, the gateway's keys, and the record it leaves.

A pod's image has none of the labs' modules: `witnessing.command` hands this text over beside the program's own.
It leans on nothing but Python.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RECORD = Path("/dev/termination-log")
KEYS = Path("/etc/keys/api-keys.yaml")
Record = dict[str, Any]


class Answer:
    """One answer: status 0 where the connection ended without one."""

    def __init__(self, status: int, text: str, headers: dict[str, str], seconds: float) -> None:
        self.status, self.text, self.headers, self.seconds = status, text, headers, seconds
        try:
            self.json = json.loads(text)
        except ValueError:
            self.json = {}

    @property
    def object(self) -> Record:
        """The answer as a JSON object; empty where it is none."""
        return self.json if isinstance(self.json, dict) else {}

    @property
    def words(self) -> str:
        """The answer's own text."""
        return str(self.object.get("answer") or "")

    @property
    def degraded(self) -> Record:
        return self.object.get("degraded") or {}


def call(
    url: str, body: Any = None, *, headers: dict[str, str] | None = None, timeout_s: float = 60.0
) -> Answer:
    """One request; what breaks is an answer of status 0."""
    place, began = urllib.parse.urlsplit(url), time.monotonic()
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout_s)
    sent = {"Content-Type": "application/json", **(headers or {})}
    try:
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        text = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, text, sent)
        response = connection.getresponse()
        said = response.read().decode("utf-8", "replace")
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, said, found, time.monotonic() - began)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, f"{type(error).__name__}: {error}", {}, time.monotonic() - began)
    finally:
        connection.close()


def last_event(stream: str) -> Record:
    """The event of a stream that says what it used, which is the last; empty where there is none."""
    for line in reversed(stream.splitlines()):
        if line.startswith("data: {") and '"usage"' in line:
            found: Record = json.loads(line.removeprefix("data: "))
            return found
    return {}


def keys() -> dict[str, str]:
    """The keys that the gateway knows, by tenant, as Envoy's own file has them."""
    import yaml

    file = yaml.safe_load(KEYS.read_text())
    return {item["client"]: item["key"] for item in file["resources"][0]["typed_config"]["credentials"]}


def leave_record(
    name: str,
    witnesses: Mapping[str, Callable[[], Record]],
    ran_with: Callable[[], Record] = lambda: {},
) -> int:
    """Run one witness; its record, and 0 where it came to its end.

    Args:
        ran_with: what else the record says of what it was made with.
    """
    about = {"witness": name, "job": os.environ.get("JOB_UID"), "pod": os.environ.get("HOSTNAME")}
    record = {**about, **ran_with()}
    try:
        record["seen"] = witnesses[name]()
    except Exception as error:  # noqa: BLE001 - whatever happened here is the record
        record["error"] = f"{type(error).__name__}: {error}"[:900]
    text = json.dumps(record, separators=(",", ":"))
    print(text, flush=True)
    RECORD.write_text(text)
    return 1 if "error" in record else 0
