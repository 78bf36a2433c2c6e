"""How long grading a class of 200 takes: lab 01, with the instructor's credentials, signed and kept.

    .venv/bin/python tests/benchmarks/bench_class.py

Two classes, both on this machine and with it: 200 learners in namespaces of one embedded cluster, whose
API server shares the processors with the grader; and 200 learners with an API server each, small ones in
memory that speak real HTTP from another process, of which ten accept connections and never answer.
COURSE_BENCH_LEARNERS sets the size, COURSE_BENCH_KUBECONFIG=FILE another cluster.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from bench_grade import cluster

LEARNERS = int(os.environ.get("COURSE_BENCH_LEARNERS", "200"))
DEAD = LEARNERS // 20
BUDGET_S = 60
HARD = {
    "requests.nvidia.com/gpu": "1", "requests.cpu": "4", "limits.cpu": "14", "requests.memory": "32Gi",
    "limits.memory": "96Gi", "requests.storage": "400Gi", "persistentvolumeclaims": "4", "pods": "8",
}  # fmt: skip


def main() -> None:
    """Print a line for each class."""
    with tempfile.TemporaryDirectory(prefix="course-bench-") as home:
        os.environ["COURSE_HOME"] = home
        with servers(LEARNERS, DEAD) as kubeconfigs:
            graded("an API server each, in memory", own_clusters(kubeconfigs))
        with cluster(home) as environment:
            os.environ |= {name: environment[name] for name in environment if name.startswith("COURSE_")}
            graded("namespaces of one embedded cluster", shared_cluster())


def graded(label: str, folder: Any) -> None:
    """Grade the class twice; the second time nothing has changed."""
    from helpers.classroom.marking.marking import labs_for, mark
    from helpers.classroom.marking.runs import Run

    print(f"\n{len(folder.members)} learners, {label}")
    for words in ("first time", "again, unchanged"):
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        run = Run.begin(folder.path, ["01"], [item.learner.id for item in folder.members], {})
        marked = list(mark(folder, run, folder.members, labs_for(["01"])))
        wall_s = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        each = [item.report.duration_s for item in marked if not item.is_broken]
        broken = sum(item.is_broken for item in marked)
        new = sum(item.is_new for item in marked)
        print(
            f"  {words:<18}{wall_s:6.1f} s  (budget {BUDGET_S} s)  CPU of the grader {cpu_s:.1f} s, "
            f"a learner {statistics.median(each):.2f} s, slowest {max(each):.2f} s; "
            f"{len(marked)} graded, {broken} environments broken, {new} new attempts"
        )


def objects() -> list[dict[str, Any]]:
    """What a learner in the middle of lab 01 has: three namespaces, the quota, a refused Deployment."""
    labels = {"llm-apps": {"kubedojo.dev/role": "llm-apps"}}
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels.get(name, {})}}
        for name in ("llm-system", "llm-apps", "llm-workshop")
    ]
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "llm-system-quota", "namespace": "llm-system"}, "spec": {"hard": HARD},
    }  # fmt: skip
    limits = {"nvidia.com/gpu": "16", "cpu": "1m", "memory": "1Mi"}
    container = {"name": "run", "image": "registry.k8s.io/pause:3.10.2", "resources": {"limits": limits}}
    template = {"metadata": {"labels": {"app": "greedy"}}, "spec": {"containers": [container]}}
    greedy = {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "greedy", "namespace": "llm-system"},
        "spec": {"selector": {"matchLabels": {"app": "greedy"}}, "template": template},
    }  # fmt: skip
    return [*spaces, quota, greedy]


def shared_cluster() -> Any:
    """A class in suffixed namespaces of the cluster in use."""
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.roster import Learner
    from helpers.cluster import Cluster, Scope

    base = Cluster.connect()
    members = [
        Member.new(Learner(f"b{n:03d}", f"Learner {n}", f"b{n:03d}@example.org")) for n in range(LEARNERS)
    ]
    started = time.monotonic()
    for member in members:
        Cluster(base.backend, scope=Scope(member.suffix)).apply(objects())
    print(f"\n{LEARNERS} learners put into place in {time.monotonic() - started:.0f} s (not counted)")
    folder = ClassFolder.at("bench-shared")
    return replace(folder, cluster_uid=base.identity().uid, members=tuple(members)).save()


def own_clusters(kubeconfigs: list[Path]) -> Any:
    """A class in which everybody has an API server of their own."""
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.roster import Learner

    members = [
        replace(
            Member.new(Learner(f"o{n:03d}", f"Learner {n}", f"o{n:03d}@example.org")),
            suffix="",
            kubeconfig=path,
        )
        for n, path in enumerate(kubeconfigs)
    ]
    return replace(ClassFolder.at("bench-own"), members=tuple(members)).save()


@contextmanager
def servers(count: int, dead: int) -> Iterator[list[Path]]:
    """API servers in memory, in a process of their own; the last `dead` ones never answer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(count - dead, theirs), daemon=True)
    process.start()
    ports: list[int] = ours.recv()
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(dead)]
    ports += [item.getsockname()[1] for item in silent]
    folder = Path(os.environ["COURSE_HOME"]) / "servers"
    folder.mkdir()
    try:
        yield [kubeconfig(folder / f"{port}.yaml", port) for port in ports]
    finally:
        process.terminate()
        for item in silent:
            item.close()


def kubeconfig(path: Path, port: int) -> Path:
    tree = {
        "current-context": "own",
        "contexts": [{"name": "own", "context": {"cluster": "own"}}],
        "clusters": [{"name": "own", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def serve(count: int, pipe: Any) -> None:
    """Start the servers and say where they are; ends when the process is terminated."""
    import threading

    from helpers.cluster.fake import FakeCluster

    ports = []
    for _ in range(count):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(FakeCluster(objects()).backend))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports.append(server.server_port)
    pipe.send(ports)
    threading.Event().wait()


def handler_of(backend: Any) -> type[BaseHTTPRequestHandler]:
    """An HTTP face of one API server in memory."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            parts = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            kind = self.headers.get("Content-Type") or "application/json"
            query = dict(parse_qsl(parts.query))
            found = backend.request(self.command, parts.path, query=query, body=body, content_type=kind)
            self.send_response(found.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

        def log_message(self, format: str, *args: Callable[..., Any]) -> None:
            """Nothing: 6000 lines tell nobody anything."""

    return Handler


if __name__ == "__main__":
    main()
