"""The witnesses of scaling: what the pod's program counts, and what whoever runs it sees of the replicas."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.chaos.experiment import recover
from helpers.chaos.undo import Undo
from helpers.cli import _register_parts, app
from helpers.cluster import Cluster
from helpers.cluster.backend import ExecResult
from helpers.cluster.fake import FakeCluster
from helpers.errors import EnvironmentFault, StepMissing
from helpers.grading.changes import manifest
from helpers.labs.lab08_scale import proof_scale, witness_scale
from helpers.labs.lab08_scale import witness_scale_program as program
from helpers.stack import prometheus, scaling

NOBODY: dict[str, Any] = {"changes": [], "ups": 0, "downs": 0}


# The pod's side


class Pool:
    """A pool of model servers behind one address, that may lose answers; and a queue of jobs."""

    def __init__(self) -> None:
        self.lose: Callable[[int], bool] = lambda number: False
        self.asked, self.jobs = 0, 0
        pool = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/v1/models":
                    return self._say(200, {"data": [{"id": "small"}]})
                return self._say(200, {"status": "done", "attempts": 1})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/jobs":
                    pool.jobs += 1
                    return self._say(202, {"job_id": f"job-{pool.jobs}", "status": "waiting"})
                pool.asked += 1
                if pool.lose(pool.asked):
                    return None
                time.sleep(0.01)
                return self._say(200, {"usage": {"completion_tokens": body["max_tokens"]}})

            def _say(self, status: int, body: Any) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pool]:
    """The program beside a pool, in no hurry and with no patience."""
    found = Pool()
    threading.Thread(target=found.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("POOL_URL", found.url)
    monkeypatch.setenv("JOBS_URL", found.url)
    monkeypatch.setattr(program, "TMP", tmp_path)
    for name in ("CALM_S", "DIP_S", "AGAIN_S"):
        monkeypatch.setattr(program, name, 0.05)
    yield found
    found.server.shutdown()
    found.server.server_close()


def answered(**answers: Any) -> None:
    for word, said in answers.items():
        (program.TMP / word).write_text(json.dumps(said))


def test_a_wave_has_a_step_a_dip_and_a_calm_and_counts_every_answer(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    answered(
        rest={"replicas": 1},
        second={"asked_s": 3.0, "ready_s": 9.0, "desired": 2},
        down={"down_s": 60.0},
        changes={"changes": [[3.0, 1, 2], [99.0, 2, 1]], "ups": 1, "downs": 1},
    )
    seen = program.wave()
    words = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("WITNESS ")]
    assert words == ["rest", "second", "down", "changes"]
    assert seen["asked"] == seen["answered"] == pool.asked > 0 and seen["lost"] == 0
    assert (seen["rest"], seen["asked_s"], seen["down_s"], seen["ups"]) == (1, 3.0, 60.0, 1)
    assert len(json.dumps(seen)) < 4000


def test_without_a_second_replica_there_is_no_dip_to_see(pool: Pool) -> None:
    answered(rest={"replicas": 1}, second={"asked_s": None, "ready_s": None, "desired": None}, changes=NOBODY)
    assert "down_s" not in program.wave()


def test_where_one_is_never_enough_there_is_no_step_to_see(pool: Pool) -> None:
    answered(rest={"replicas": 2}, changes=NOBODY)
    seen = program.wave()
    assert (seen["rest"], seen["asked_s"]) == (2, None) and "down_s" not in seen


def test_an_answer_that_is_cut_off_is_lost_and_said_so(pool: Pool) -> None:
    pool.lose = lambda number: number == 2
    answered(
        rest={"replicas": 1},
        second={"asked_s": 1, "ready_s": 1, "desired": 2},
        down={"down_s": 1},
        changes=NOBODY,
    )
    seen = program.wave()
    assert seen["lost"] == 1 and seen["answered"] == seen["asked"] - 1 and seen["how"][0].startswith("0 ")


def test_what_the_runner_could_not_do_is_the_record(pool: Pool) -> None:
    answered(second={"asked_s": 1.0, "ready_s": None, "desired": 2}, gone={"error": "Forbidden: no"})
    with pytest.raises(RuntimeError, match="Forbidden"):
        program.blind()


def test_a_lone_job_is_left_when_nobody_is_there_and_only_then(pool: Pool) -> None:
    answered(asleep={"replicas": 0}, awake={"changes": [[4.0, 0, 1]], "ups": 1, "downs": 0})
    seen = program.zero()
    assert (seen["first"]["status"], seen["second"]["attempts"], pool.jobs) == ("done", 1, 2)
    answered(asleep={"replicas": 1})
    assert program.zero() == {"replicas": 1} and pool.jobs == 2


def test_nobody_answers_a_witness_that_was_started_by_hand(pool: Pool) -> None:
    with pytest.raises(TimeoutError, match="course witness"):
        program.ask_runner("rest", timeout_s=0.1)


# The runner's side


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCluster:
    """A pool of one, with a ScaledObject that KEDA has taken; patience of a moment."""
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    found = FakeCluster()
    for kind in ("ScaledObject", "Prometheus"):
        group = "keda.sh" if kind == "ScaledObject" else "monitoring.coreos.com"
        version = "v1alpha1" if kind == "ScaledObject" else "v1"
        found.serve_kind(
            kind, group, version, f"{kind.lower()}es" if kind == "Prometheus" else f"{kind.lower()}s"
        )
    for namespace in (scaling.BATCH, scaling.APPS, prometheus.MONITORING):
        found.put(manifest("Namespace", namespace))
    replicas(found, 1)
    spec = {"scaleTargetRef": {"name": scaling.POOL}, "triggers": []}
    metadata = {"name": scaling.POOL, "namespace": scaling.BATCH}
    found.put({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": spec})
    proof_scale.taken(scaling.POOL)(found)
    proof_scale.start(found)
    for name in (
        "REST_S",
        "ASKED_S",
        "SERVES_S",
        "DOWN_S",
        "GONE_S",
        "FALLBACK_S",
        "BACK_S",
        "ASLEEP_S",
        "WANTED_S",
    ):
        monkeypatch.setattr(witness_scale, name, 0.3)
    for name in ("AFTER_FALLBACK_S", "POLL_S"):
        monkeypatch.setattr(witness_scale, name, 0.02)
    return found


def replicas(cluster: FakeCluster, asked: int, ready: int | None = None) -> None:
    ready = asked if ready is None else ready
    spec = {"replicas": asked, "template": {"spec": {"containers": []}}}
    status = {"replicas": asked, "readyReplicas": ready}
    cluster.put(manifest("Deployment", scaling.POOL, scaling.BATCH, spec=spec, status=status))
    for pod in cluster.view().pods(scaling.BATCH):
        cluster.delete("Pod", pod.name, scaling.BATCH)
    for number in range(asked):
        cluster.add_pod(f"vllm-{number}", scaling.BATCH, labels={"app": "vllm"})


def runner(cluster: FakeCluster, name: str = "wave") -> witness_scale.Runner:
    return witness_scale.Runner(cluster, name, lambda line: None)


def test_rest_is_one_replica_that_serves_and_no_other(cluster: FakeCluster) -> None:
    assert runner(cluster).rest("") == {"replicas": 1}
    replicas(cluster, 2)
    assert runner(cluster).rest("") == {"replicas": 2}


def test_a_scaler_that_keeps_more_is_not_waited_for(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_scale, "REST_S", 3600.0)
    replicas(cluster, 2)
    cluster.patch("ScaledObject", scaling.POOL, {"spec": {"minReplicaCount": 2}}, scaling.BATCH)
    assert runner(cluster).rest("") == {"replicas": 2}


def test_the_second_replica_is_timed_from_the_step_and_its_absence_is_none(cluster: FakeCluster) -> None:
    assert runner(cluster).second("") == {"asked_s": None, "ready_s": None, "desired": 1}
    replicas(cluster, 2, ready=1)
    seen = runner(cluster).second("")
    assert seen["asked_s"] is not None and seen["ready_s"] is None
    replicas(cluster, 2)
    assert runner(cluster).second("")["ready_s"] is not None
    replicas(cluster, 2, ready=1)
    assert runner(cluster).second("asked")["ready_s"] is None


def test_every_change_of_the_replicas_is_counted_from_the_step_on(cluster: FakeCluster) -> None:
    found = runner(cluster)
    for asked in (2, 1):
        found.watch.see(scaling.Standing(asked=asked))
    found.watch.begin()
    for asked in (1, 2, 2, 1):
        found.watch.see(scaling.Standing(asked=asked))
    seen = found.changes("")
    assert [change[1:] for change in seen["changes"]] == [[1, 2], [2, 1]]
    assert (seen["ups"], seen["downs"]) == (1, 1)


def test_the_watch_sees_what_the_cluster_says_while_a_witness_runs(cluster: FakeCluster) -> None:
    watch = witness_scale.Watch(cluster, scaling.POOL, scaling.BATCH, period_s=0.01)
    with watch:
        _until(lambda: watch.now is not None)
        replicas(cluster, 2)
        _until(lambda: bool(watch.changes))
    assert [change[1:] for change in watch.changes] == [(1, 2)]


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    assert is_so()


def test_prometheus_is_back_whatever_happens_while_it_is_gone(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas(cluster, 2)
    sizes = []
    found = runner(cluster, "blind")
    looked = found._standing

    def look() -> scaling.Standing:
        seen = cluster.view().get("Prometheus", proof_scale.PROMETHEUS, prometheus.MONITORING)
        sizes.append(seen.path("spec.replicas"))
        return looked()

    monkeypatch.setattr(found, "_standing", look)
    assert found.gone("") == {"before": 2, "least": 2, "fallback": False, "fallback_s": None}
    proof_scale.taken(scaling.POOL, Fallback="True")(cluster)
    assert found.gone("")["fallback"]
    assert (sizes[0], 0 in sizes, sizes[-1]) == (1, True, 1)

    def breaks(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(found, "_until", breaks)
    with pytest.raises(KeyboardInterrupt):
        found.gone("")
    restored = cluster.view().get("Prometheus", proof_scale.PROMETHEUS, prometheus.MONITORING)
    assert restored.path("spec.replicas") == 1 and scaling.LENT not in restored.annotations


def size(cluster: FakeCluster) -> tuple[int, bool]:
    """How many replicas Prometheus is to have, and whether it is marked as away."""
    found = cluster.view().get("Prometheus", proof_scale.PROMETHEUS, prometheus.MONITORING)
    return found.path("spec.replicas"), scaling.LENT in found.annotations


def test_recover_brings_a_prometheus_back_whose_witness_was_killed(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runner(cluster, "blind")
    monkeypatch.setattr(witness_scale, "undo", lambda *_: None)  # as with kill -9: nothing runs any more

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(found, "_until", killed)
    with pytest.raises(KeyboardInterrupt):
        found.gone("")
    assert size(cluster) == (0, True)
    assert recover(cluster) == ["witness blind"] and size(cluster) == (1, False)
    assert recover(cluster) == []


def test_recover_brings_a_prometheus_back_that_another_machine_took_away(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaling.prometheus_away(cluster)
    monkeypatch.setattr(Cluster, "connect", staticmethod(lambda: cluster))
    _register_parts()
    listed = CliRunner().invoke(app, ["recover", "--list"])
    assert f"Prometheus {proof_scale.PROMETHEUS}: away" in listed.output and size(cluster) == (0, True)
    assert recover(cluster) == [f"Prometheus {proof_scale.PROMETHEUS} away"] and size(cluster) == (1, False)


def test_recover_leaves_a_prometheus_away_while_its_witness_looks(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runner(cluster, "blind")
    found._way_back()
    scaling.prometheus_away(cluster)
    monkeypatch.setattr(Undo, "is_running", property(lambda _: True))
    assert recover(cluster) == [] and size(cluster) == (0, True)
    assert recover(cluster, force=True) == ["witness blind"] and size(cluster) == (1, False)


def test_a_prometheus_that_somebody_brings_back_is_no_blindness(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas(cluster, 2)
    found = runner(cluster, "blind")

    def brought_back(*_: object) -> bool:
        scaling.prometheus_back(cluster)
        return True

    monkeypatch.setattr(found, "_until", brought_back)
    with pytest.raises(EnvironmentFault, match="brought Prometheus back"):
        found.gone("")


def test_what_cannot_be_done_is_told_to_the_pod(cluster: FakeCluster) -> None:
    cluster.delete("Prometheus", proof_scale.PROMETHEUS, prometheus.MONITORING)
    said: list[list[str]] = []

    def heard(namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        said.append(command)
        return ExecResult(0, "", "")

    cluster.exec_handler = heard
    cluster.add_pod("witness-blind-x", scaling.APPS)
    runner(cluster, "blind").asked["gone"](cluster.view().pod("witness-blind-x", scaling.APPS), "")
    assert said[0][-2] == "/tmp/gone" and "no Prometheus object" in json.loads(said[0][-1])["error"]


def test_a_witness_of_what_is_not_there_names_the_step_that_is_missing(cluster: FakeCluster) -> None:
    with pytest.raises(StepMissing, match="ScaledObject llm-worker"):
        witness_scale.run(cluster, "zero", on_progress=lambda line: None)


def test_a_record_is_bound_to_the_scaler_and_to_what_its_pods_are_made_from(cluster: FakeCluster) -> None:
    spec = {"template": {"spec": {"containers": [{"name": "front", "image": "i"}]}}}
    cluster.put(manifest("Deployment", witness_scale.FRONT, scaling.APPS, spec=spec))

    def revision(name: str = "wave") -> str:
        job = witness_scale.make(cluster.view(), name)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        return next(str(item["value"]) for item in container["env"] if item["name"] == "REVISION")

    before = revision()
    replicas(cluster, 2)
    assert revision() == before
    cluster.patch(
        "Deployment",
        scaling.POOL,
        {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}},
        scaling.BATCH,
    )
    assert revision() == before
    blind = revision("blind")
    graceless = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
    cluster.patch("Deployment", scaling.POOL, graceless, scaling.BATCH)
    assert revision() != before and revision("blind") == blind
    before = revision()
    cluster.patch("ScaledObject", scaling.POOL, {"spec": {"pollingInterval": 7}}, scaling.BATCH)
    assert revision() != before
