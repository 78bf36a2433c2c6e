"""Lab 06 without a cluster: its drafts and solutions as the service reads them, its pictures, its proxies."""

from __future__ import annotations

import ast
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.apps.orchestrator import decisions
from helpers.cluster.fake import FakeCluster
from helpers.errors import InvalidInput, InvalidManifest
from helpers.grading.author import SOLUTION, fake_clusters
from helpers.labs import witness_base, witnessing
from helpers.labs.lab06_orchestration import draw, draw_decisions, ground, witness, witness_program
from helpers.labs.lab06_orchestration.mutants import PROOFS, SEEN
from helpers.settings import REPOSITORY
from helpers.stack import gateway, orchestrator

SOLVED = REPOSITORY / "solutions" / "06_orchestration.py"
GIVEN = REPOSITORY / "solutions" / "given" / "06"
FUNCTIONS = {
    "budget.py": ("hop_deadline_ms",),
    "idempotency.py": ("idempotency_key",),
    "window.py": ("trim",),
    "retry.py": ("worth_a_retry",),
    "degrade.py": ("degrade",),
    "circuit.py": ("circuit_of", "opens"),
    "admission.py": ("admit",),
}
PICTURES = {
    draw_decisions.budget_picture: 1,
    draw_decisions.key_table: 1,
    draw_decisions.trim_picture: 1,
    draw_decisions.retry_table: 1,
    draw_decisions.degrade_table: 1,
    draw_decisions.circuit_picture: 2,
    draw_decisions.admission_picture: 1,
}


def solved(name: str) -> str:
    text = SOLVED.read_text()
    found = next(
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name
    )
    return ast.unparse(ast.FunctionDef(**{**vars(found), "decorator_list": []}))


def given(name: str) -> str:
    return (GIVEN / f"{name}.py.txt").read_text()


@pytest.mark.parametrize("written", [solved, given], ids=["solved", "given"])
@pytest.mark.parametrize("file", FUNCTIONS)
def test_the_service_reads_every_draft_and_every_solution(file: str, written: Callable[[str], str]) -> None:
    """A draft is wrong in what it decides, and never in its shape: the pods must start with it."""
    text = orchestrator._HEAD + "\n\n".join(written(name) for name in FUNCTIONS[file])
    assert set(decisions.load(file, text.encode())) == set(FUNCTIONS[file])


def function_of_this_file(backend: str) -> str:
    return json.dumps(backend)


def test_a_function_of_a_page_becomes_a_file_with_what_it_may_use() -> None:
    text = orchestrator.decision_text(function_of_this_file)
    assert "import json" in text and "def function_of_this_file(backend: str) -> str:" in text
    with pytest.raises(InvalidInput, match="is no function"):
        orchestrator.decision_text("a text")  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [None, "a text", -1, 10**9, [], {}, True, object()])
@pytest.mark.parametrize("picture", PICTURES)
def test_no_picture_breaks_on_what_a_decision_says(picture: Any, said: Any) -> None:
    assert picture(*[lambda *_: said] * PICTURES[picture]) is not None


@pytest.mark.parametrize("picture", PICTURES)
def test_a_decision_that_raises_is_told_in_a_sentence(picture: Any) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("left")

    assert "broken raised KeyError" in picture(*[broken] * PICTURES[picture]).text
    assert "is no function" in picture(*["a text"] * PICTURES[picture]).text


@pytest.mark.parametrize("text", ["", "- a", "a", "A: 1", "A: [", "A: ~", None, "A: x\n---\nB: y"])
def test_settings_that_are_none_are_named(text: Any) -> None:
    with pytest.raises(InvalidInput):
        draw.settings_of(text)


def test_what_a_prototype_has_is_what_the_page_gives() -> None:
    prototype = ground.MANIFESTS / "prototype"
    fragments = [
        yaml.safe_load((GIVEN / f"{name}_settings.yaml").read_text()) for name in ("state", "lease", "client")
    ]
    assert {**fragments[0], **fragments[1], **fragments[2]} == ground.prototype_settings()
    assert (GIVEN / "rollout_yaml.yaml").read_text() == (prototype / "deployment.yaml").read_text()
    redis = list(yaml.safe_load_all((ground.MANIFESTS / "start" / "redis.yaml").read_text()))
    assert yaml.safe_load((GIVEN / "redis_yaml.yaml").read_text()) in redis


def in_front() -> FakeCluster:
    cluster = fake_clusters(PROOFS)(SOLUTION)
    assert isinstance(cluster, FakeCluster)
    return cluster


def test_what_is_delivered_changes_the_pod_template_and_nothing_else_in_the_map() -> None:
    cluster = in_front()
    before = orchestrator.decisions_in(cluster.view())
    orchestrator.deliver(cluster, orchestrator.DECISIONS, {"budget.py": "# another\n"})
    after = orchestrator.decisions_in(cluster.view())
    assert {name for name in after if after[name] != before[name]} == {"budget"}
    template = cluster.view().deployment(orchestrator.DEPLOYMENT, orchestrator.NAMESPACE)
    annotations = template.path("spec.template.metadata.annotations")
    assert orchestrator.checksums(cluster.view()).items() <= annotations.items()
    orchestrator.deliver(cluster, orchestrator.DECISIONS, {"budget.py": None})
    assert "budget" not in orchestrator.decisions_in(cluster.view())


@pytest.mark.parametrize(
    "limits", [None, {}, {"filter": {}}, {"filter": [], "rate_limits": []}, {"rate_limits": []}]
)
def test_limits_of_another_shape_are_refused(limits: Any) -> None:
    with pytest.raises(InvalidManifest):
        ground.with_limits((gateway.MANIFESTS / "base" / "envoy.yaml").read_text(), limits)


@pytest.mark.parametrize("name", witness.WITNESSES)
def test_every_witness_is_in_the_program_and_its_record_fits(name: str) -> None:
    assert name in witness_program.WITNESSES and name in SEEN
    record = {
        "witness": name,
        "files": dict.fromkeys(orchestrator.DECISION_FILES, "0" * 12),
        "seen": SEEN[name],
    }
    # The kubelet keeps 4,096 bytes of a termination message.
    assert len(json.dumps(record)) < 3500


def test_every_witness_of_a_solved_cluster_has_a_record_that_counts() -> None:
    view = in_front().view()
    assert {name: witness.record(view, name).seen for name in witness.WITNESSES} == SEEN


def test_the_way_that_lab_07_adds_to_the_gateway_takes_no_record_away() -> None:
    cluster = in_front()
    before = witness.manifest(cluster.view(), "gateway")
    text = cluster.view().config_map(gateway.CONFIG, gateway.NAMESPACE).data[gateway.FILE]
    config = yaml.safe_load(text)
    clusters = config["static_resources"]["clusters"]
    clusters[:] = [item for item in clusters if item["name"] != "llm-assistant"]
    listener = next(item for item in config["static_resources"]["listeners"] if item["name"] == "http")
    host = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]
    host["routes"] = [item for item in host["routes"] if item["route"]["cluster"] != "llm-assistant"]
    for changed in (config, {**config, "admin": {}}):
        data = {gateway.FILE: yaml.safe_dump(changed)}
        cluster.patch("ConfigMap", gateway.CONFIG, {"data": data}, gateway.NAMESPACE)
        assert (witness.manifest(cluster.view(), "gateway") == before) == (changed is config)


# The proxies


class Backend(http.server.BaseHTTPRequestHandler):
    """A real backend's place: it answers everything with what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def proxied() -> Iterator[tuple[witness_program.Proxy, str]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = witness_program.Proxy(0, f"http://127.0.0.1:{server.server_port}", counts="/chat/completions")
    try:
        yield proxy, f"http://127.0.0.1:{proxy.server_address[1]}/v1/chat/completions"
    finally:
        proxy.shutdown()
        server.shutdown()


def test_a_proxy_passes_calls_on_and_counts_those_that_count() -> None:
    with proxied() as (proxy, url):
        answer = witness_program.call(url, {"max_tokens": 7})
        assert (answer.status, answer.json) == (200, {"max_tokens": 7})
        assert witness_program.call(url.replace("chat/completions", "tokenize"), {}).status == 200
        assert (len(proxy.since()), proxy.most, proxy.answered) == (1, 1, [200])


def test_a_proxy_answers_breaks_off_and_falls_silent_as_it_is_told() -> None:
    with proxied() as (proxy, url):
        proxy.fault = lambda body: "503"
        assert witness_program.call(url, {}).status == 503
        proxy.fault = lambda body: "reset"
        assert witness_program.call(url, {}).status == 0
        proxy.fault = lambda body: "stall"
        assert witness_program.call(url, {}, timeout_s=0.2).status == 0
        proxy.over.set()
        assert len(proxy.since()) == 3


def test_a_witness_s_text_runs_on_the_image_s_python() -> None:
    """The program is handed over as text: it must not lean on anything of the course but its base."""
    for file, allowed in (
        (witness_program.__file__, {witness_base.__name__}),
        (witness_base.__file__, set[str]()),
    ):
        tree = ast.parse(Path(file).read_text())
        imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported += [
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        ]
        assert {name for name in imported if name.startswith("helpers")} == allowed


def test_a_program_has_its_base_where_the_course_is_not(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from __future__ import annotations\nimport sys\nfrom helpers.labs.witness_base import last_event\n"
        "if __name__ == '__main__':\n    print(sys.argv[1:], last_event('data: {\"usage\": 3}'))\n"
    )
    python, *rest = witnessing.command(program, "again")
    done = subprocess.run(
        [sys.executable, "-I", *rest], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (python, done.stdout, done.stderr) == ("python3", "['again'] {'usage': 3}\n", "")
