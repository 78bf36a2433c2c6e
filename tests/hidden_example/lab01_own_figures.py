"""An example of a package of hidden checks: lab 01 with every learner's own figures.

A learner who applies a neighbour's manifest, or the one that is handed around, passes every public
check of the quota and falls short here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.classroom.marking.hidden import HiddenLab
from helpers.classroom.seats.variables import LABEL, Variables
from helpers.cluster import quantity
from helpers.grading import Verdict, all_of, expect, expect_true

if TYPE_CHECKING:
    from helpers.cluster import ClusterView, ResourceQuota

lab = HiddenLab("01")


@lab.check("hidden.figures", points=3, needs=["namespaces"], task="quota")
def own_figures(cluster: ClusterView, mine: Variables) -> Verdict:
    """The quota of `llm-system` has the figures of your own seat.

    Why: Every seat has figures of its own: a quota that fits somebody else's plan is not yours.
    Next: course seat
    """
    quota = cluster.resource_quota()
    return all_of(*(_limit(quota, name, wanted) for name, wanted in mine.quota.items()))


def _limit(quota: ResourceQuota, dimension: str, wanted: str) -> Verdict:
    hard = quota.hard(dimension)
    right = hard == quantity(wanted)
    shown = "the figure of your seat" if right else "another figure"
    return expect_true(right, f"{dimension}: the figure of your seat", f"{dimension}: {shown}", quota)


@lab.check("hidden.seat", points=1, needs=["namespaces"], task="quota", next="course seat")
def own_label(cluster: ClusterView, mine: Variables) -> Verdict:
    """The quota carries the label of your own seat."""
    quota = cluster.get("ResourceQuota", "llm-system-quota", "llm-system")
    found = quota.labels.get(LABEL)
    shown = "none" if found is None else "yours" if found == mine.seat else "somebody else's"
    return expect(
        found, equals=mine.seat, that=f"{LABEL} is yours", observed=f"{LABEL}: {shown}", evidence=quota
    )
