"""Wrong clusters for lab 07: those of the gate and those of the traces, on one solved cluster."""

from __future__ import annotations

from typing import Any

from helpers.grading.author import Proofs
from helpers.labs.lab07_gates import mutants_gate, mutants_traces, proof_state


def solution(cluster: Any) -> None:
    """All eight parts as they should be, and every witness has looked."""
    proof_state.solution(cluster)
    mutants_gate.records(cluster)
    mutants_traces.records(cluster)


PROOFS = Proofs(
    start=proof_state.start,
    solution=solution,
    mutants=[*mutants_gate.MUTANTS, *mutants_traces.MUTANTS],
)
