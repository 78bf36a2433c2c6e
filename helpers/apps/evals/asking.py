"""One question to the orchestrator, as its users ask it; several at once; and what counts as no answer."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from helpers.apps.evals.outcome import ConfigurationWrong, InfrastructureFailed
from helpers.apps.evals.rows import Row, keys_by_id

TENANT = "eval"
AT_ONCE = 4
TIMEOUT_S = 60.0
CONNECT_TRIES = 5
CONNECT_PAUSE_S = 1.0
# Who was told that it is busy or that a backend did not answer asks again, as users do: so many times in all. Who was
# told when to come again comes then, and more often: a circuit that five slow seconds opened is shut again by one answer.
PATIENCE, TOLD_PATIENCE = 3, 6
PAUSE_S, LONGEST_PAUSE_S = 1.0, 5.0
# The orchestrator's word for "no passage is near enough": a refusal, and no fault of any backend.
NOTHING_FOUND = "qdrant_nothing_found"
# A target of which more than this share does not answer is down; below it, it is a bad release that fails at times.
MOST_DOWN = 0.2


@dataclass(frozen=True)
class Reply:
    """What came back for one row. `status` is 0 where the connection ended without an answer."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return str(self.body.get("answer") or "")

    @property
    def error(self) -> str:
        """The error's own word; empty where there is none."""
        return str(self._said.get("code", ""))

    @property
    def come_again_s(self) -> float:
        """After how many seconds the answer says to ask again; 0.0 where it says nothing."""
        told = self._said.get("retry_after_s")
        return min(max(told, 0.0), LONGEST_PAUSE_S) if isinstance(told, int | float) else 0.0

    @property
    def _said(self) -> dict[str, Any]:
        error = self.body.get("error")
        return error if isinstance(error, dict) else {}

    @property
    def found_nothing(self) -> bool:
        """The release had no passage for the question, and said so."""
        return self.status == 503 and self.error == NOTHING_FOUND

    @property
    def is_down(self) -> bool:
        """Nobody answered, or a server said that it cannot: not the release's own words."""
        return (self.status == 0 or self.status >= 500 or self.status == 429) and not self.found_nothing

    @property
    def answered(self) -> bool:
        return self.status == 200 and bool(self.text.strip()) and not self.body.get("degraded")

    @property
    def contexts(self) -> list[str]:
        """The passages that stood in the prompt, in its order."""
        return [str(item.get("text", "")) for item in self.body.get("retrieval_context") or []]

    @property
    def found(self) -> list[str]:
        """Their keys in the corpus, best first; an id that the corpus does not know stands for itself."""
        return [keys_by_id().get(str(name), str(name)) for name in self.body.get("citations") or []]

    @property
    def completion_tokens(self) -> int:
        usage = self.body.get("usage")
        return int(usage.get("completion_tokens") or 0) if isinstance(usage, dict) else 0


class Target:
    """One release under its URL.

    Raises:
        ConfigurationWrong: the URL is none.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        place = urllib.parse.urlsplit(url)
        if place.scheme != "http" or not place.hostname:
            raise ConfigurationWrong(f"{url!r} is no address of a release: http://NAME:PORT")
        self.url = url.rstrip("/")
        self._host, self._port, self._base = place.hostname, place.port or 80, place.path.rstrip("/")
        self._token = os.environ.get("INTERNAL_API_TOKEN", "") if token is None else token
        self._timeout_s = timeout_s

    def call(self, path: str, body: dict[str, Any] | None = None) -> Reply:
        """One request; what breaks is a reply of status 0."""
        began = time.monotonic()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        headers = {
            "Content-Type": "application/json",
            "X-Internal-Token": self._token,
            "X-Tenant-Id": TENANT,
        }
        try:
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", self._base + path, text, headers)
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            return Reply(0, {"error": {"code": type(error).__name__, "message": str(error)}})
        finally:
            connection.close()
        return Reply(response.status, _object(raw), time.monotonic() - began)

    def ask(self, question: str) -> Reply:
        """One question. What is down for a moment is asked again: a busy second is no property of a release."""
        for attempt in range(1, TOLD_PATIENCE + 1):
            reply = self.call("/v1/chat", {"question": question, "return_retrieval_context": True})
            patience = TOLD_PATIENCE if reply.come_again_s else PATIENCE
            if not reply.is_down or reply.status == 0 or attempt >= patience:
                break
            time.sleep(reply.come_again_s or PAUSE_S)
        return reply

    def about(self) -> dict[str, Any]:
        """What the release says that it is: its model, prompt, collection.

        Raises:
            InfrastructureFailed: nobody answers there.
            ConfigurationWrong: it answers, and not to us.
        """
        for attempt in range(CONNECT_TRIES):
            reply = self.call("/v1/release")
            if not reply.is_down:
                break
            if attempt + 1 < CONNECT_TRIES:
                time.sleep(CONNECT_PAUSE_S)
        if reply.is_down:
            why = (reply.body.get("error") or {}).get("message") or f"status {reply.status}"
            raise InfrastructureFailed(f"target unreachable: {self.url} does not answer ({why})")
        if reply.status == 401:
            raise ConfigurationWrong(f"{self.url} wants another INTERNAL_API_TOKEN")
        if reply.status != 200:
            raise ConfigurationWrong(f"{self.url} is no release of the assistant (status {reply.status})")
        return reply.body

    def ask_all(
        self,
        rows: Sequence[Row],
        *,
        at_once: int = AT_ONCE,
        on_answer: Callable[[int], None] = lambda n: None,
    ) -> dict[str, Reply]:
        """The replies by the rows' ids.

        Raises:
            InfrastructureFailed: too many rows have none.
        """
        replies: dict[str, Reply] = {}
        down: list[Reply] = []
        pool = ThreadPoolExecutor(at_once)
        try:
            futures = {row.id: pool.submit(self.ask, row.question) for row in rows}
            for number, (name, future) in enumerate(futures.items(), 1):
                replies[name] = future.result()
                on_answer(number)
                down += [replies[name]] if replies[name].is_down else []
                if len(down) > MOST_DOWN * len(rows):
                    raise InfrastructureFailed(self._down(down, number))
        finally:  # who is known to be down is not asked on
            pool.shutdown(cancel_futures=True)
        return replies

    def _down(self, down: Sequence[Reply], asked: int) -> str:
        told = sorted({str(reply.status or "no connection") for reply in down})
        return (
            f"{len(down)} of {asked} questions to {self.url} have no answer ({', '.join(told)}): "
            f"{down[0].error or 'nothing was said'}"
        )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
