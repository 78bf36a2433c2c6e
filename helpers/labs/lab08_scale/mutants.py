"""Wrong clusters for lab 08: those of the queue, of scaling, and of the review, on one solved cluster."""

from __future__ import annotations

from typing import Any

from helpers.grading.author import Proofs
from helpers.labs.lab08_scale import mutants_queue, mutants_review, mutants_scale, proof_state


def solution(cluster: Any) -> None:
    """All parts as they should be, every witness has looked, and an incident was named."""
    proof_state.solution(cluster)
    mutants_queue.records(cluster)
    mutants_scale.records(cluster)
    mutants_review.records(cluster)


PROOFS = Proofs(
    start=proof_state.start,
    solution=solution,
    mutants=[*mutants_queue.MUTANTS, *mutants_scale.MUTANTS, *mutants_review.MUTANTS],
)
