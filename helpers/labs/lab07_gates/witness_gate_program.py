"""What runs in the pod of a witness of the gate: it lets the learner's own gate judge, and says what it said.

Beside it stand copies of the orchestrator, one a release. The names `llm-assistant-canary` and `llm-assistant`
lead to this program, which stands before the copies: it chooses who is the candidate, counts what is asked of
it, and for a moment answers in its place or not at all. The gate is the Job of the learner's AnalysisTemplate,
word for word, started here as a process with the learner's files, or with one of them broken.

What a gate asks of a good release is asked of the bad ones meanwhile, and they are judged on fewer rows: that a
release is broken shows in a few. The record is the container's termination message.

The text of this file and of `witness_base` is the pod's command.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.labs.witness_base import Record, leave_record

EVALS = Path("/etc/evals")
CANARY, STABLE, PORT = "127.0.0.2", "127.0.0.3", 8080
READY_S = 120.0
RUN_S = 240.0
# So many questions of the bad releases at once, beside the four of the gate: vLLM computes four, and what waits in its
# queue for long runs into the release's own deadline.
AHEAD = 2
USERS = 60
# So many rows of a set are enough to see that a release is broken; questions out of scope cost nothing.
FEWER = {"golden": 6, "regression": 2}
Asked = tuple[str, str, bytes]
"""Method, path and body of a request."""


def call(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One request to a copy; status 0 where nothing came back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    try:
        connection.request(method, path, body or None, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()
    finally:
        connection.close()


def token() -> str:
    return os.environ.get("INTERNAL_API_TOKEN", "")


class Copies:
    """The copies by release, their ports, and what is known of their answers."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = json.loads(os.environ["COPIES"])
        self._known: dict[tuple[str, Asked], Future[tuple[int, bytes]]] = {}
        self._lock = threading.Lock()
        self._ahead = ThreadPoolExecutor(AHEAD)
        until = time.monotonic() + READY_S
        for name, port in self.ports.items():
            while call(port, "GET", "/readyz")[0] != 200:
                if time.monotonic() > until:
                    status, said = call(port, "GET", "/readyz")
                    raise RuntimeError(f"the release {name} does not become ready: {status} {said[:300]!r}")
                time.sleep(0.3)

    def answer(self, release: str, asked: Asked, *, anew: bool = False) -> tuple[int, bytes]:
        """A release's answer; the one that is known, unless it is wanted anew.

        What was to be asked ahead and still waits for its turn is asked now: the gate gives up after a minute.
        """
        if asked[0] != "POST" or anew:
            return self._ask(release, asked)
        with self._lock:
            known = self._known.get((release, asked))
            is_first = known is None or known.cancel()
            if known is None or is_first:
                known = self._known[release, asked] = Future()
                known.set_running_or_notify_cancel()
        if is_first:
            known.set_result(self._ask(release, asked))
            return known.result()
        status, body = known.result()
        return (status, body) if status == 200 else self._ask(release, asked)

    def ask_ahead(self, release: str, asked: Asked) -> None:
        with self._lock:
            if (release, asked) not in self._known:
                self._known[release, asked] = self._ahead.submit(self._ask, release, asked)

    def _ask(self, release: str, asked: Asked) -> tuple[int, bytes]:
        method, path, body = asked
        headers = {
            "Content-Type": "application/json",
            "X-Internal-Token": token(),
            "X-Tenant-Id": "eval",
        }
        return call(self.ports[release], method, path, body, headers)


class Name(ThreadingHTTPServer):
    """Who is behind one of the two names. `fault` is "", "reset", or a status for every question."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, copies: Copies) -> None:
        super().__init__((address, PORT), Handler)
        self.copies, self.release, self.fault, self.anew = copies, "stable", "", False
        # Questions that this release is not asked: it shares the answers of another one.
        self.shares, self.own = "", frozenset[str]()
        self.asked: list[Asked] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def who(self, asked: Asked) -> str:
        """Which release answers this."""
        if not self.shares or asked[0] != "POST":
            return self.release
        question = str(json.loads(asked[2] or b"{}").get("question", ""))
        return self.release if question in self.own else self.shares

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up is no error of the program's."""


class Handler(BaseHTTPRequestHandler):
    """One request under one of the two names."""

    protocol_version = "HTTP/1.1"
    server: Name

    def do_GET(self) -> None:
        self._pass(b"")

    def do_POST(self) -> None:
        self._pass(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _pass(self, body: bytes) -> None:
        server = self.server
        if server.fault == "reset":
            self.close_connection = True
            return self.connection.close()
        if self.headers.get("X-Internal-Token") != token():
            return self._say(401, b'{"error": {"code": "unauthorized"}}')
        asked = (self.command, self.path, body)
        if self.command == "POST":
            server.asked.append(asked)
            if server.fault:
                return self._say(int(server.fault), b'{"error": {"code": "failed for the witness"}}')
        status, said = server.copies.answer(server.who(asked), asked, anew=server.anew)
        return self._say(status or 502, said)

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The witness's own log has no place for requests."""


class Bench:
    """The learner's gate between the two names, and its files."""

    def __init__(self) -> None:
        self.job: Record = json.loads(os.environ["REVISION"])
        self.copies = Copies()
        self.canary, self.stable = Name(CANARY, self.copies), Name(STABLE, self.copies)
        self._runs = 0

    def run(
        self,
        release: str,
        *,
        fault: str = "",
        anew: bool = False,
        shares: str = "",
        edit: Callable[[Path], object] = lambda at: None,
    ) -> Record:
        """Let the gate judge a release: exit code, what it left, how many questions reached the candidate."""
        self._runs += 1
        case = Path(f"/tmp/case-{self._runs}")
        for part in ("sets", "gate", "baseline"):
            shutil.copytree(EVALS / part, case / part, ignore=shutil.ignore_patterns("..*"))
        edit(case)
        self.canary.release, self.canary.fault, self.canary.anew = release, fault, anew
        self.canary.shares, self.canary.own = shares, _questions(case / "sets" / "regression.jsonl")
        before = len(self.canary.asked)
        left = case / "said"
        left.touch()
        try:
            ended = subprocess.run(
                self._command(case),
                env={**self._environment(), "TERMINATION_LOG": str(left)},
                cwd="/tmp",
                timeout=RUN_S,
                capture_output=True,
                text=True,
                check=False,
            )
            code, log = ended.returncode, ended.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            code, log = 124, f"{type(error).__name__}: {error}"
        print(f"-- {release} {fault} exit {code}\n{log[-1500:]}", flush=True)
        return {"exit": code, "asked": len(self.canary.asked) - before, **_said(left, log)}

    def _command(self, case: Path) -> list[str]:
        """The Job's command with the case's files in place of the mounted ones."""
        command = list(self.job["command"])
        for path, part in sorted(self.job["folders"].items(), key=lambda item: -len(item[0])):
            command = [word.replace(path, str(case / part)) for word in command]
        return command

    def _environment(self) -> dict[str, str]:
        """What the Job's container has, and what an image brings; the token only where the Job asks for it."""
        own = {name: value for name, value in self.job["env"].items() if value is not None}
        if "INTERNAL_API_TOKEN" in self.job["env"]:
            own["INTERNAL_API_TOKEN"] = token()
        image = ("PATH", "PYTHONPATH", "EMBEDDING_DIR", "HOME", "LANG", "PYTHONDONTWRITEBYTECODE")
        return {**{name: os.environ[name] for name in image if name in os.environ}, **own}

    def ahead(self, releases: Iterable[str], questions: frozenset[str]) -> None:
        """Ask these releases what the candidate was asked so far, as far as it is among these questions."""
        wanted = [
            asked
            for asked in dict.fromkeys(self.canary.asked)
            if str(json.loads(asked[2]).get("question", "")) in questions
        ]
        for release in releases:
            for asked in wanted:
                self.copies.ask_ahead(release, asked)


def _questions(file: Path) -> frozenset[str]:
    """The questions of a set; what is no row has none."""
    found = set()
    for line in file.read_text().splitlines() if file.is_file() else []:
        with suppress(ValueError, AttributeError):
            found.add(str(json.loads(line).get("question", "")))
    return frozenset(found)


def _questions_of_fewer() -> frozenset[str]:
    return frozenset(row.question for rows in _fewer_rows(EVALS).values() for row in rows)


def _fewer_rows(at: Path) -> dict[str, list[Any]]:
    """The rows that the gate chooses, and of some sets the first ones only; none where it cannot be read."""
    from helpers.apps.evals import runner
    from helpers.apps.evals.outcome import ConfigurationWrong

    try:
        chosen = runner.plan(at / "sets", at / "gate").rows
    except ConfigurationWrong:
        return {}
    return {name: list(rows)[: FEWER.get(name)] for name, rows in chosen.items()}


def fewer(at: Path) -> None:
    """Leave only those rows in the sets, and let the baseline be one of these rows."""
    from helpers.apps.evals import gatefile, rows

    kept = _fewer_rows(at)
    for name, some in kept.items():
        file, ids = at / "sets" / f"{name}.jsonl", {row.id for row in some}
        lines = [line for line in file.read_text().splitlines() if line.strip()]
        _write(file, "\n".join(line for line in lines if json.loads(line).get("id") in ids) + "\n")
    file = at / "baseline" / "main.json"
    if kept and file.is_file():
        with suppress(ValueError, KeyError, TypeError):
            baseline = json.loads(file.read_text())
            averaged = [row for name in gatefile.AVERAGED for row in kept.get(name, ())]
            baseline["pins"]["rows"] = rows.fingerprint(averaged)
            _write(file, json.dumps(baseline))


def _said(left: Path, log: str) -> Record:
    """What a run left, as short as a record needs it."""
    try:
        told = json.loads(left.read_text())
    except ValueError:
        told = {}
    last = log.strip().splitlines()[-1:] or [""]
    return {
        "verdict": told.get("verdict", ""),
        "failed": (told.get("failed") or [])[:6],
        "scores": {name: score[0] for name, score in (told.get("scores") or {}).items()},
        "message": str(told.get("message") or last[0])[:90],
    }


# Scenarios


def judge() -> Record:
    """Part 2: how far vLLM's model agrees with forty labels."""
    from helpers.apps.evals import judge as judging

    file = Path(judging.__file__).with_name("data") / "labels.jsonl"
    labels = judging.read_labels(file.read_text())
    told = judging.measure(os.environ["VLLM_BASE_URL"], labels).told()
    return {**told, "labels": hashlib.sha256(file.read_bytes()).hexdigest()[:12]}


def gate() -> Record:
    """Parts 2 to 4: the learner's functions on planted answers, and the learner's gate on every candidate."""
    planted_wrong = planted()
    bench = Bench()
    bad = [name for name in bench.copies.ports if name not in ("stable", "good")]
    runs = {"good": bench.run("good", anew=True)}
    bench.ahead(bad, _questions_of_fewer())
    runs["good again"] = bench.run("good", anew=True)
    runs |= {name: bench.run(name, edit=fewer) for name in bad}
    metrics = sorted({name for run in runs.values() for name in run["scores"]})
    return {
        "planted": planted_wrong,
        "runs": {
            name: [run["exit"], run["verdict"], run["asked"], run["failed"][:3]] for name, run in runs.items()
        },
        "metrics": metrics,
        "scores": {name: [run["scores"].get(metric) for metric in metrics] for name, run in runs.items()},
        "said": next((run["message"] for run in runs.values() if not run["verdict"]), ""),
        "codes": codes(bench),
    }


def codes(bench: Bench) -> Record:
    """The gate where nothing can be said of the candidate: exit code and verdict of each case."""
    cases: dict[str, Record] = {
        "unreachable": {"fault": "reset"},
        "failing": {"fault": "500"},
        "malformed": {"edit": lambda at: _append(at / "sets" / "golden.jsonl", '{"id": "broken", \n')},
        "empty": {"edit": lambda at: _write(at / "sets" / "golden.jsonl", "")},
        "metric": {"edit": _unknown_metric},
        "baseline": {"edit": lambda at: (at / "baseline" / "main.json").unlink(missing_ok=True)},
        "model": {"edit": _other_model},
    }
    runs = {name: bench.run("good", **how) for name, how in cases.items()}
    return {name: [run["exit"], run["verdict"]] for name, run in runs.items()}


def _append(file: Path, line: str) -> None:
    _write(file, file.read_text() + line if file.is_file() else line)


def _write(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    file.write_text(text)


def _unknown_metric(at: Path) -> None:
    import yaml

    file = at / "gate" / "gate.yaml"
    gate = yaml.safe_load(file.read_text())
    gate["metrics"]["helpfulness"] = {"floor": 0.5, "max_drop": 0.1}
    _write(file, yaml.safe_dump(gate))


def _other_model(at: Path) -> None:
    file = at / "baseline" / "main.json"
    baseline = json.loads(file.read_text())
    baseline["pins"]["model"] = "another-model"
    _write(file, json.dumps(baseline))


A, B, C = "quota-counts-requests", "mig-slices", "time-slicing"
PASSAGES = ["A quota adds up requests.", "MIG cuts a card in hardware.", "Pods take turns."]
PLANTED: dict[str, list[tuple[str, tuple[Any, ...], float]]] = {
    "citation": [
        ("one passage named", ("A quota counts requests [1].", PASSAGES), 1.0),
        ("two passages named", ("Slices [2], or turns [3].", PASSAGES), 1.0),
        ("none named", ("A quota counts requests.", PASSAGES), 0.0),
        ("a passage that was not given", ("A quota counts requests [4].", PASSAGES), 0.0),
        ("one that was given and one that was not", ("Slices [2], see also [9].", PASSAGES), 0.0),
        ("number zero", ("A quota counts requests [0].", PASSAGES), 0.0),
        ("brackets without a number", ("Use a label [app: vllm] on the pod.", PASSAGES), 0.0),
        ("a number without brackets", ("1 GPU is counted.", PASSAGES), 0.0),
        ("named, and nothing was retrieved", ("A quota counts requests [1].", []), 0.0),
        ("an empty answer", ("", PASSAGES), 0.0),
    ],
    "refusal": [
        ("I do not know", ("I do not know.",), 1.0),
        ("in other case", ("I DO NOT KNOW that.",), 1.0),
        ("with an apostrophe", ("I don't know, the passages do not say.",), 1.0),
        ("I cannot help", ("I cannot help with that.",), 1.0),
        ("an answer", ("A quota adds up requests and limits [1].",), 0.0),
        ("an answer about not knowing", ("The scheduler knows every node [1].",), 0.0),
        ("an answer with `not` in it", ("No. It does not look at real use [1].",), 0.0),
        ("an empty answer", ("",), 0.0),
    ],
    "retrieval_precision": [
        ("the one that is right", ([A], [A]), 1.0),
        ("one of two", ([A, B], [A]), 0.5),
        ("one of four", ([B, C, A, "kv-cache"], [A]), 0.25),
        ("both of three", ([A, B, C], [A, C]), 0.667),
        ("none of two", ([B, C], [A]), 0.0),
        ("nothing found", ([], [A]), 0.0),
        ("one found of two that are right", ([A], [A, B]), 1.0),
    ],
}


def planted() -> Record:
    """The learner's functions on answers of which the score is known: what each got wrong, first three."""
    from helpers.apps.evals import plug
    from helpers.apps.evals.outcome import ConfigurationWrong
    from helpers.apps.orchestrator.decisions import DecisionWrong

    file = EVALS / "gate" / plug.FILE
    try:
        functions = plug.read(file.read_text()) if file.is_file() else {}
    except DecisionWrong as wrong:
        return {"error": str(wrong)[:200]}
    found: Record = {}
    for name, cases in PLANTED.items():
        if name not in functions:
            continue
        wrong_ones = []
        for words, arguments, right in cases:
            try:
                said: float | str = round(functions[name](*arguments), 3)
            except ConfigurationWrong as wrong:
                said = str(wrong)[:60]
            if said != right:
                wrong_ones.append(f"{words}: {said} and not {right:g}")
        found[name] = wrong_ones[:3]
    return found


def users() -> Record:
    """Part 8: a day of users with a release that passed its gate; whose traces are whose, by their ids."""
    copies = Copies()
    (release,) = copies.ports
    question, pod = os.environ["QUESTION"], os.environ.get("HOSTNAME", "")

    def ask(number: int) -> int:
        headers = {
            "Content-Type": "application/json",
            "X-Internal-Token": token(),
            "X-Tenant-Id": "users",
            "traceparent": f"00-{trace_id(pod, number)}-{trace_id(pod, -1 - number)[:16]}-01",
        }
        body = json.dumps({"question": question, "max_tokens": 8}).encode()
        return call(copies.ports[release], "POST", "/v1/chat", body, headers)[0]

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(ask, range(USERS)))
    time.sleep(8)  # the service's spans leave in batches
    return {"release": release, "question": question, "asked": USERS, "answered": statuses.count(200)}


def trace_id(pod: str, number: int) -> str:
    """The id of the trace of a user's question: known to whoever knows the pod."""
    return hashlib.md5(f"{pod}/{number}".encode(), usedforsecurity=False).hexdigest()


def loop() -> Record:
    """Part 8: the release that lost a page, before and after there was a row for it; and one that has the page."""
    bench = Bench()

    def without(at: Path) -> None:
        file = at / "sets" / "regression.jsonl"
        lines = [line for line in file.read_text().splitlines() if '"trace:' not in line]
        _write(file, "\n".join(lines) + "\n")

    runs = {
        "before": bench.run("lost-page", edit=without),
        "after": bench.run("lost-page"),
        "stable": bench.run("stable", shares="lost-page"),
    }
    return {name: [run["exit"], run["verdict"], run["asked"], run["failed"]] for name, run in runs.items()}


WITNESSES: dict[str, Callable[[], Record]] = {found.__name__: found for found in (judge, gate, users, loop)}


def ran_with() -> Record:
    """The learner's files by their checksums."""
    files = sorted(EVALS.glob("*/*"))
    return {
        "files": {
            f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            for file in files
            if file.is_file()
        }
    }


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], WITNESSES, ran_with))
