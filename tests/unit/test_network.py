"""Reachability: what an attempt means, and what it does not prove."""

from __future__ import annotations

import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.cluster.backend import ExecResult
from helpers.errors import ProbeInconclusive
from helpers.stack import network, stage
from helpers.stack.network import Outcome, Reachability, Seen, Target, observe, parse_probe, probe_command
from helpers.stack.probes import Caller

VLLM = Target("vllm", "vllm.llm-system", 8000, "/health")
QDRANT = Target("qdrant", "qdrant.llm-system", 6333, "/readyz")
DNS = Target("dns", "kube-dns.kube-system", 53)
APP, NODE = Caller("app", "llm-apps", "probe-app"), Caller("node", "llm-probes", "probe-node", control=True)


def line(number: int, code: int, status: str, connected: float, said: str = "") -> str:
    return f"PROBE {number} {code} {status} {connected:.6f} 0.010000 {said}"


@pytest.mark.parametrize(
    ("printed", "target", "outcome", "status"),
    [
        (line(0, 0, "200", 0.001), VLLM, Outcome.CONNECTED, 200),
        (line(0, 0, "403", 0.001), VLLM, Outcome.CONNECTED, 403),
        (line(0, 0, "503", 0.001), VLLM, Outcome.CONNECTED, 503),
        (line(0, 28, "000", 0.001, "Operation timed out"), VLLM, Outcome.CONNECTED, None),
        (line(0, 1, "000", 0.001, "Received HTTP/0.9 when not allowed"), QDRANT, Outcome.CONNECTED, None),
        (line(0, 52, "000", 0.001, "Empty reply from server"), QDRANT, Outcome.CONNECTED, None),
        (
            line(0, 28, "000", 0.0, "Connection timed out after 1001 milliseconds"),
            VLLM,
            Outcome.TIMEOUT,
            None,
        ),
        (line(0, 7, "000", 0.0, "Failed to connect"), VLLM, Outcome.REFUSED, None),
        (line(0, 6, "000", 0.0, "Could not resolve host: vllm"), VLLM, Outcome.DNS, None),
        (line(0, 28, "000", 0.0, "Resolving timed out after 1000 milliseconds"), VLLM, Outcome.DNS, None),
        (line(0, 28, "000", 0.0, "Resolving timed out after 1000 milliseconds"), DNS, Outcome.TIMEOUT, None),
        (line(0, 6, "000", 0.0, "Could not resolve host"), DNS, Outcome.TIMEOUT, None),
        (line(0, 27, "000", 0.0, "Out of memory"), VLLM, Outcome.INCONCLUSIVE, None),
        ("", VLLM, Outcome.INCONCLUSIVE, None),
    ],
)
def test_an_attempt_is_read_from_what_the_probe_printed(
    printed: str, target: Target, outcome: Outcome, status: int | None
) -> None:
    seen = parse_probe(printed, [target])[target.name]
    assert (seen.outcome, seen.status) == (outcome, status)


def test_only_timeouts_and_refusals_count_as_stopped() -> None:
    stopped = {outcome for outcome in Outcome if Seen(outcome).stopped}
    assert stopped == {Outcome.TIMEOUT, Outcome.REFUSED}


def table(**rows: Outcome) -> Reachability:
    seen = {(name, "vllm"): Seen(outcome) for name, outcome in rows.items()}
    return Reachability((APP, NODE), (VLLM,), seen)


def test_a_stopped_connection_is_a_denial_only_when_the_control_connects() -> None:
    assert table(app=Outcome.TIMEOUT, node=Outcome.CONNECTED).answer("app", "vllm") is False
    dead = table(app=Outcome.REFUSED, node=Outcome.REFUSED)
    assert dead.answer("app", "vllm") is None
    assert dead.words("app", "vllm") == "refused, but vllm is down"


def test_without_a_control_connection_the_endpoints_decide() -> None:
    ready, gone = VLLM, Target("vllm", "vllm", 8000, down="Service vllm has no ready endpoint")
    seen = {("app", "vllm"): Seen(Outcome.REFUSED)}
    assert Reachability((APP,), (ready,), seen).answer("app", "vllm") is False
    assert Reachability((APP,), (gone,), seen).answer("app", "vllm") is None


@pytest.mark.parametrize("outcome", [Outcome.DNS, Outcome.INCONCLUSIVE])
def test_a_name_that_does_not_resolve_and_a_probe_that_did_not_run_prove_nothing(outcome: Outcome) -> None:
    assert table(app=outcome, node=Outcome.CONNECTED).answer("app", "vllm") is None


def test_a_403_is_reachable() -> None:
    seen = {("app", "vllm"): Seen(Outcome.CONNECTED, 403)}
    assert Reachability((APP,), (VLLM,), seen).answer("app", "vllm") is True


def test_each_caller_is_asked_once_about_all_targets_and_all_at_the_same_time() -> None:
    asked, lock, together = [], threading.Lock(), threading.Barrier(2, timeout=30)

    def execute(namespace: str, pod: str, command: list[str], timeout_s: float) -> ExecResult:
        together.wait()
        with lock:
            asked.append((pod, sum(part.startswith("http") for part in command)))
        return ExecResult(0, line(0, 0, "200", 0.1) + "\n" + line(1, 7, "000", 0.0), "")

    seen = observe(execute, [APP, NODE], [VLLM, QDRANT])
    assert sorted(asked) == [("probe-app", 2), ("probe-node", 2)]
    assert seen.answer("app", "vllm") is True


def test_an_exec_that_fails_is_inconclusive_for_its_own_row_only() -> None:
    def execute(namespace: str, pod: str, command: list[str], timeout_s: float) -> ExecResult:
        if pod == "probe-app":
            raise ProbeInconclusive("the container is gone")
        return ExecResult(0, line(0, 0, "200", 0.1), "")

    seen = observe(execute, [APP, NODE], [VLLM])
    assert seen.seen[("app", "vllm")].outcome is Outcome.INCONCLUSIVE
    assert seen.answer("node", "vllm") is True


def test_an_image_without_curl_is_said_in_the_shells_words() -> None:
    def execute(namespace: str, pod: str, command: list[str], timeout_s: float) -> ExecResult:
        return ExecResult(127, "", "sh: curl: not found")

    assert observe(execute, [APP], [VLLM]).seen[("app", "vllm")].detail == "sh: curl: not found"


def test_nothing_to_observe_is_inconclusive_and_not_an_empty_success() -> None:
    with pytest.raises(ProbeInconclusive):
        observe(lambda *_: ExecResult(0, "", ""), [], [VLLM])


def sealed(**rows: Outcome) -> network.Enforcement:
    target = Target("sealed", "10.0.0.9", 9376)
    seen = {(name, "sealed"): Seen(outcome) for name, outcome in rows.items()}
    return stage.enforcement(Reachability((APP, NODE), (target,), seen))


def test_enforcement_is_read_from_the_sealed_pod() -> None:
    assert sealed(app=Outcome.TIMEOUT, node=Outcome.CONNECTED).enforced is True
    assert sealed(app=Outcome.CONNECTED, node=Outcome.CONNECTED).enforced is False
    assert sealed(app=Outcome.TIMEOUT, node=Outcome.TIMEOUT).enforced is None
    assert stage.enforcement(Reachability((APP,), (VLLM,), {})).enforced is None


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")


@needs_curl
def test_the_probe_command_runs_and_tells_refused_from_answered() -> None:
    """The real curl against loopback: nothing listens on port 1."""
    targets = [Target("closed", "127.0.0.1", 1), Target("nowhere", "nowhere.invalid", 80)]
    seen = parse_probe(run(probe_command(targets)), targets)
    assert seen["closed"].outcome is Outcome.REFUSED
    assert seen["nowhere"].outcome is Outcome.DNS


@needs_curl
def test_the_probe_command_has_all_its_connections_under_way_at_once() -> None:
    """A server that answers nobody until everybody is there: so a denied target holds up no other."""
    together = threading.Barrier(40, timeout=20)

    class Meeting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            together.wait()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """A test has its own words."""

    class Hall(ThreadingHTTPServer):
        request_queue_size = 40

    with Hall(("127.0.0.1", 0), Meeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        targets = [Target(f"t{number}", "127.0.0.1", server.server_port) for number in range(40)]
        seen = parse_probe(run(probe_command(targets, timeout_s=20)), targets)
        server.shutdown()
    assert {answer.status for answer in seen.values()} == {200}


def run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
