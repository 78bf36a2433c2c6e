"""Wrong clusters for lab 09: those of staging, of versions and of the controller, on one solved cluster."""

from __future__ import annotations

from typing import Any

from helpers.grading.author import Proofs
from helpers.labs.lab09_models import (
    mutants_controller,
    mutants_staging,
    mutants_versions,
    proof_controller,
    proof_staging,
)


def start(cluster: Any) -> None:
    """What `course start 09` leaves."""
    proof_staging.start(cluster)
    proof_controller.start(cluster)


def solution(cluster: Any) -> None:
    """All parts as they should be, and every witness has looked."""
    proof_staging.solution(cluster)
    proof_controller.solution(cluster)
    mutants_staging.records(cluster)
    mutants_versions.records(cluster)
    mutants_controller.records(cluster)


PROOFS = Proofs(
    start=start,
    solution=solution,
    mutants=[*mutants_staging.MUTANTS, *mutants_versions.MUTANTS, *mutants_controller.MUTANTS],
)
