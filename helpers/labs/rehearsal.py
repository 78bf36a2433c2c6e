"""The other labs on a fake cluster: where the proofs of a lab's checks run a third time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from helpers.grading.author import Setting
from helpers.grading.verdict import Status
from helpers.labs.registry import lab_ids, load_proofs


def beside_other_labs(number: str) -> Setting:
    """All other labs, started and solved before this one is begun."""
    others = [lab for lab in lab_ids() if lab != number]
    return Setting(
        "beside the other labs",
        lambda cluster: solve(cluster, others),
        untouched=(Status.NOT_ATTEMPTED, Status.BLOCKED, Status.PARTIAL, Status.PASS),
    )


def solve(cluster: Any, numbers: Iterable[str]) -> None:
    """These labs on a fake cluster, one after the other, each from its start to its solution."""
    for number in numbers:
        proofs = load_proofs(number)
        proofs.start(cluster)
        proofs.solution(cluster)
