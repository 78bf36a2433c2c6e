"""The proof that a lab's checks judge rightly, which every author owes.

Beside `helpers/checks/labNN_name.py` lies `labNN_name_mutants.py` with one `PROOFS`: how to bring a
cluster into the lab's start state, into its solved state, and into the wrong states that learners
really produce. `course check-author NN` runs all checks on all of them and prints the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from helpers.grading.verdict import Status

if TYPE_CHECKING:
    from helpers.cluster import Cluster

Change = Callable[["Cluster"], None]
FALLS_SHORT = (Status.FAIL, Status.PARTIAL)
WRONG_CLUSTERS_PER_CHECK = 3


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong cluster: what is changed, and which checks must notice, by which word.

    Args:
        name: what the learner did wrong, in a few words.
        apply: makes the cluster wrong; it starts from the state named by `base`.
        fails: for each check that must fall short, a text that its `observed` must contain.
        status: the status they must have; FAIL or PARTIAL unless given.
        base: "solution" or "start".
    """

    name: str
    apply: Change
    fails: Mapping[str, str]
    status: Status | None = None
    base: Literal["solution", "start"] = "solution"


@dataclass(frozen=True)
class Proofs:
    """All that `course check-author` needs to know of a lab.

    Args:
        start: brings an empty cluster to the lab's start state.
        solution: brings the start state to the solved state.
        mutants: the wrong clusters; at least three for every check.
        start_statuses: checks that are not NOT_ATTEMPTED (or BLOCKED) in the start state, and what they are.
    """

    solution: Change
    mutants: Sequence[Mutant]
    start: Change = lambda cluster: None
    start_statuses: Mapping[str, Status] = field(default_factory=dict)
