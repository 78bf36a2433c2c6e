"""The users of an incident: jobs at a steady pace, most of them asked before, through the API server's proxy.

It runs in the process that makes the incident and ends with it, so that there is nothing to undo.
"""

from __future__ import annotations

import base64
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from helpers.chaos.incident_faults import APPS, BATCH, FRONT
from helpers.errors import LabError, ObjectMissing
from helpers.stack.memory import corpus

if TYPE_CHECKING:
    from helpers.cluster import Cluster

SECRET, TOKEN, CONFIG = "llm-orchestrator-secrets", "INTERNAL_API_TOKEN", "llm-jobs-config"
PORT = 8080
USUAL_PER_S, FLOOD_PER_S = 0.8, 6.0
FORGET_EVERY_S = 1.0
TOKENS = 16
# Asked again and again, as users do; the other part of the questions is new.
KNOWN = (
    "What does a ResourceQuota count?",
    "When does a startup probe end?",
    "What is a taint for?",
    "What does a headless Service answer?",
    "How long does a pod have to end?",
)
KNOWN_SHARE = 0.75
WORDS_OF_A_PASSAGE = 9
QUEUE_POD, REDIS_PORT = "queue-0", 6379
_FORGET = (
    "local n = 0 for _, p in ipairs(ARGV) do for _, k in ipairs(redis.call('KEYS', p)) do redis.call('DEL', k) n = n + 1 "
    "end end return n"
)
FORGOTTEN = ("*cache:*", "*near", "*near:*")


class Load:
    """Users who ask at a pace; a context manager."""

    def __init__(self, cluster: Cluster, *, seed: int = 0) -> None:
        self._cluster, self._kind = cluster, "usual"
        self._random = random.Random(seed)
        self._passages = [" ".join(item.text.split()[:WORDS_OF_A_PASSAGE]) for item in corpus()]
        self._over = threading.Event()
        self._token, self._tenants = _token(cluster), _tenants(cluster)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._forget)]
        self.sent = self.accepted = 0
        self.problem = ""

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def become(self, kind: str) -> None:
        """Go on as another kind: usual, flood, or forgetful."""
        self._kind = kind

    def _ask(self) -> None:
        at = time.monotonic()
        while not self._over.is_set():
            flood = self._kind == "flood"
            self._post(self._question(new=flood), self._tenants[flood])
            at = max(at + 1 / (FLOOD_PER_S if flood else USUAL_PER_S), time.monotonic())
            self._over.wait(at - time.monotonic())

    def _question(self, *, new: bool) -> str:
        if not new and self._random.random() < KNOWN_SHARE:
            return self._random.choice(KNOWN)
        # Two passages and a number: no cache has it, neither by its words nor by what it means.
        one, other = self._random.sample(self._passages, 2)
        return f"{self._random.randrange(10**6)}: what has “{one}” to do with “{other}”?"

    def _post(self, question: str, tenant: str) -> None:
        headers = {"x-internal-token": self._token, "x-tenant-id": tenant}
        body = {"question": question, "max_tokens": TOKENS, "retrieve": True}
        self.sent += 1
        try:
            answer = self._cluster.view().http(
                APPS, FRONT, PORT, "/v1/jobs", method="POST", json=body, headers=headers, timeout_s=10
            )
        except LabError as error:
            self.problem = str(error)
            return
        self.accepted += answer.status == 202
        if answer.status not in (202, 429):
            self.problem = f"POST /v1/jobs: {answer.status} {answer.body[:120]}"

    def _forget(self) -> None:
        """While it is forgetful: what the cache has is deleted as soon as it is there."""
        while not self._over.wait(FORGET_EVERY_S):
            if self._kind == "forgetful":
                try:
                    forget(self._cluster)
                except (LabError, OSError, ValueError) as error:
                    self.problem = f"the cache cannot be emptied: {error}"


def forget(cluster: Cluster) -> int:
    """Delete what the cache has; how many keys went."""
    from helpers.stack.state import Problem, decoded, encoded

    view = cluster.view()
    with (
        view.forward(BATCH, QUEUE_POD, REDIS_PORT) as way,
        socket.create_connection((way.host, way.port), timeout=5) as connection,
    ):
        connection.sendall(encoded(["EVAL", _FORGET, "0", *FORGOTTEN]))
        with connection.makefile("rb") as stream:
            said: Any = decoded(stream)
    if isinstance(said, Problem):
        raise LabError(f"Redis refuses to forget: {said}")
    return int(said)


def _token(cluster: Cluster) -> str:
    secret = cluster.view().get("Secret", SECRET, APPS)
    found = secret.path("data", {}).get(TOKEN)
    if not found:
        raise ObjectMissing(TOKEN, f"in Secret {SECRET}", APPS, next_command="course start 08")
    return base64.b64decode(found).decode()


def _tenants(cluster: Cluster) -> tuple[str, str]:
    """Whose jobs the usual ones are, and whose the many: two tenants that the front knows."""
    found = cluster.view().find("ConfigMap", CONFIG, APPS)
    text = str((found.path("data", {}) if found else {}).get("TENANTS", ""))
    known = [name.strip() for name in text.split(",") if name.strip()]
    usual, many = (name if not known or name in known else known[0] for name in ("docs", "batch"))
    return usual, many
