"""How long grading takes: the whole process, its parts, and the engine's own share.

    .venv/bin/python tests/benchmarks/bench_grade.py

Starts an embedded cluster of its own, solves the labs that have a solution and need no model server
(set COURSE_BENCH_LABS to choose others), grades them as a learner would, and removes the cluster.
With COURSE_BENCH_KUBECONFIG=FILE it measures on that cluster and leaves it as it is.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.own_cluster import taken_away

RUNS = 10
BUDGET_S = {"01": 2.0}
LABS = os.environ.get("COURSE_BENCH_LABS", "01").split(",")
GIVEN = os.environ.get("COURSE_BENCH_KUBECONFIG")


def main() -> None:
    """Print one table."""
    with tempfile.TemporaryDirectory(prefix="course-bench-") as home, cluster(home) as environment:
        if not GIVEN:
            for lab in LABS:
                course(environment, "start", lab)
                course(environment, "solve", lab)
        print(f"{'what':<44}{'median':>9}{'slowest':>9}{'CPU':>9}")
        for label, arguments in parts():
            row(label, [timed([sys.executable, *arguments], environment) for _ in range(RUNS)])
        for lab in LABS:
            results = [timed(command(lab), environment) for _ in range(RUNS)]
            budget = f"  budget {BUDGET_S[lab]:g} s" if lab in BUDGET_S else ""
            row(f"course grade {lab} --json, whole process", results, budget)
        if len(LABS) > 1:
            row(f"course grade {' '.join(LABS)}", [timed(command(*LABS), environment) for _ in range(RUNS)])
        inside(environment)
    engine_alone()


def command(*labs: str) -> list[str]:
    return [sys.executable, "-m", "helpers.cli", "grade", *labs, "--json"]


def parts() -> list[tuple[str, list[str]]]:
    """What a process pays before it asks the cluster anything."""
    return [
        ("an empty Python process", ["-c", "pass"]),
        ("import helpers.cli", ["-c", "import helpers.cli"]),
        ("import helpers.cluster", ["-c", "import helpers.cluster"]),
        ("import the engine", ["-c", "import helpers.grading.engine"]),
        ("course --version", ["-m", "helpers.cli", "--version"]),
    ]


def row(label: str, results: list[tuple[float, float]], note: str = "") -> None:
    walls, cpus = zip(*results, strict=True)
    print(
        f"{label:<44}{statistics.median(walls):>8.3f}s{max(walls):>8.3f}s{statistics.median(cpus):>8.3f}s{note}"
    )


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu


def inside(environment: dict[str, str]) -> None:
    """What one Report says of itself: the run, and its slowest checks."""
    done = subprocess.run(command(*LABS), env=environment, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    print(f"\nthe run inside the process: {report['duration_s']:.3f} s, {report['summary']['counts']}")
    for verdict in sorted(report["verdicts"], key=lambda item: -item["duration_s"])[:5]:
        print(f"  {verdict['duration_s']:.3f} s  {verdict['check']}  {verdict['status']}")


def engine_alone(size: int = 1000) -> None:
    """A chain and a crowd of checks that do nothing, on a cluster in memory."""
    from helpers.cluster.fake import FakeCluster
    from helpers.grading import Lab, Verdict, expect, grade

    def lab_of(chained: bool) -> Lab:
        lab = Lab("99", "Bench")
        for number in range(size):

            def nothing(cluster: Any) -> Verdict:
                """Nothing."""
                return expect(1, equals=1)

            lab.check(f"c{number}", needs=[f"c{number - 1}"] if chained and number else [])(nothing)
        return lab

    print()
    for chained in (False, True):
        started = time.perf_counter()
        grade([lab_of(chained)], FakeCluster())
        each_ms = (time.perf_counter() - started) / size * 1000
        print(
            f"engine alone, {size} {'chained' if chained else 'independent'} checks: {each_ms:.3f} ms a check"
        )


@contextmanager
def cluster(home: str) -> Iterator[dict[str, str]]:
    """The environment of a cluster of the benchmark's own, gone afterwards; or of the one given."""
    if GIVEN:
        yield {**os.environ, "COURSE_HOME": home, "COURSE_KUBECONFIG": str(Path(GIVEN).resolve())}
        return
    name = f"bench-{os.getpid()}"
    environment = {**os.environ, "COURSE_HOME": home, "COURSE_CLUSTER": name}
    for variable in ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_SCOPE"):
        environment.pop(variable, None)
    with taken_away(name, environment=environment):
        course(environment, "up")
        yield environment


def course(environment: dict[str, str], *arguments: str) -> None:
    print(f"course {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "helpers.cli", *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
