"""`course check-author --live`: the same proofs on the cluster in use, in namespaces of their own.

The solved state is made by the solution notebook itself, so that notebook, manifests and checks are
proven together. The learner's namespaces are not touched: all is done under the scope `author`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from helpers.cluster import Cluster, Scope
from helpers.cluster.leftovers import DELETE_TIMEOUT_S
from helpers.grading.author import SOLUTION, Finding, Proofs, prove
from helpers.grading.declare import Lab
from helpers.grading.lifecycle import reset, start
from helpers.grading.runtime import ThreadRuntime
from helpers.grading.solution import notebook_of, solve

SCOPE = "author"
PATIENCE_S = 60.0


def prove_live(lab: Lab, proofs: Proofs, progress: Callable[[str], None]) -> list[Finding]:
    """Every state that a real cluster can be brought into, one after the other."""
    notebook = notebook_of(lab.id, "solutions")
    possible = replace(proofs, mutants=[mutant for mutant in proofs.mutants if mutant.live])
    with _scoped():
        cluster = Cluster.connect(scope=Scope(SCOPE))

        def in_state(base: str) -> Cluster:
            reset(lab, cluster, progress)
            start(lab, cluster, progress)
            proofs.start(cluster)
            if base == SOLUTION:
                solve(notebook)
            return cluster

        try:
            findings = prove(
                lab, possible, in_state, runtime=ThreadRuntime(), patience_s=PATIENCE_S, progress=progress
            )
            return [replace(finding, setting="live") for finding in findings]
        finally:
            for namespace in lab.namespaces:
                cluster.delete_namespace(namespace, DELETE_TIMEOUT_S)


@contextmanager
def _scoped() -> Iterator[None]:
    """The notebook connects for itself: it finds the scope in the environment."""
    before = os.environ.get("COURSE_SCOPE")
    os.environ["COURSE_SCOPE"] = SCOPE
    try:
        yield
    finally:
        if before is None:
            del os.environ["COURSE_SCOPE"]
        else:
            os.environ["COURSE_SCOPE"] = before
