"""A release that answers from a table: what a gate asks, without a model, a cluster or an orchestrator."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.apps.evals import rows

Answer = Callable[[str], tuple[int, Mapping[str, Any]]]
DATA = Path(rows.__file__).with_name("data")
RIGHT = {
    json.loads(line)["question"]: json.loads(line)
    for name in rows.SETS
    for line in (DATA / f"{name}.jsonl").read_text().splitlines()
}


def right(question: str) -> tuple[int, Mapping[str, Any]]:
    """What a good release answers."""
    row = RIGHT[question]
    if row["expected"]["behaviour"] == "refuse":
        return 503, {"error": {"code": "qdrant_nothing_found", "message": "no passage"}}
    ids = [rows.point_id(key) for key in row["expected"]["chunks"]]
    contexts = [{"id": name, "title": "", "text": "a passage"} for name in ids]
    return 200, {
        "answer": "[1] " + row["expected"]["reference"],
        "citations": ids,
        "retrieval_context": contexts,
        "degraded": None,
        "usage": {"completion_tokens": 20},
    }


def changed(**fields: Any) -> Answer:
    """A release that answers rightly but for these fields."""

    def answer(question: str) -> tuple[int, Mapping[str, Any]]:
        status, body = right(question)
        return (status, {**body, **fields}) if status == 200 else (status, body)

    return answer


@contextmanager
def release(answer: Answer, *, model: str = "smollm2", asked: list[str] | None = None) -> Iterator[str]:
    """An orchestrator's address, which answers so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(200, {"release": "r", "model": model, "prompt": "0" * 12, "collection": "course_docs"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("X-Internal-Token") != "token" or self.headers.get("X-Tenant-Id") != "eval":
                return self._say(401, {"error": {"code": "unauthorized"}})
            assert body["return_retrieval_context"] is True
            if asked is not None:
                asked.append(body["question"])
            return self._say(*answer(body["question"]))

        def _say(self, status: int, body: Mapping[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
