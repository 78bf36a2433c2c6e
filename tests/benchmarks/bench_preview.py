"""From a learner's edit to what they see: the dry-run preview, the picture, the live board, an apply.

    .venv/bin/python tests/benchmarks/bench_preview.py

Measures on the cluster in use (`course up` first) and leaves it as it was: the quota's text goes
through the parts of lab 01's page as the page calls them. The namespaces are applied if they are
missing, and removed again in that case.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from helpers import notebook as nb
from helpers.labs.lab01_substrate import draw_quota
from helpers.settings import REPOSITORY

RUNS = 20
BUDGET_S = 0.3
FOLDER = REPOSITORY / "manifests" / "stack" / "substrate"


def main() -> None:
    """Print one table."""
    lab = nb.open_lab("01")
    if lab.cluster is None:
        raise SystemExit(f"no cluster to measure on: {lab.problem}")
    created = lab.cluster.view().find("Namespace", "llm-system") is None
    lab.cluster.apply((FOLDER / "namespaces.yaml").read_text())
    quota = (FOLDER / "quota.yaml").read_text()
    try:
        print(f"{'what':<40}{'median':>9}{'slowest':>9}")
        row("edit to preview (server-side dry run)", lambda: nb.preview(lab, quota), budget_s=BUDGET_S)
        row("edit to picture (with the live quota)", lambda: draw_quota.quota_picture(lab, quota))
        row("the live board, all of lab 01", lambda: nb.grade_now(lab))
        if created:
            row("apply, and the preview after it", lambda: (nb.applied(lab, quota), nb.preview(lab, quota)))
    finally:
        if created:
            lab.cluster.delete_namespace("llm-system", wait_s=60)


def row(label: str, measured: Callable[[], object], *, budget_s: float | None = None) -> None:
    """Run it, and print the median and the slowest run in milliseconds."""
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        measured()
        seconds.append(time.perf_counter() - started)
    seconds = seconds[1:]  # the first one imports and connects
    budget = f"  budget {budget_s * 1000:.0f} ms" if budget_s else ""
    print(f"{label:<40}{statistics.median(seconds) * 1000:>6.0f} ms{max(seconds) * 1000:>6.0f} ms{budget}")


if __name__ == "__main__":
    main()
