"""Each learner's own figures, so that a neighbour's manifests do not pass.

Everything comes from the learner's nonce by HMAC-SHA256 (RFC 2104): the same nonce gives the same
figures on every machine and in every version of the course, and one learner's figures say nothing
of another's. Every figure lies where the public checks of the labs pass too (lab 01: the sum of vLLM
and Qdrant must fit, the plan and one more vLLM must not), so a learner who works with their own
figures is right in the public and in the hidden checks.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import asdict, dataclass
from typing import Any

# Not below course.llm-stack/, as all other labels of the course: there learners may not write.
LABEL = "course.dev/seat"
_PURPOSE = b"course.variables/v1:"


@dataclass(frozen=True)
class Variables:
    """One learner's figures.

    `seat` is the value of the label `course.dev/seat`, `limits_cpu` … `pods` are what the learner's
    quota must say in that dimension (GiB for memory and storage), `collection` is the name of a
    Qdrant collection that is theirs alone.
    """

    seat: str
    limits_cpu: int
    limits_memory_gib: int
    requests_storage_gib: int
    pods: int
    collection: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it stands in the learner's seat."""
        return asdict(self)

    @property
    def quota(self) -> dict[str, str]:
        """What the learner's ResourceQuota must say, as Kubernetes writes it."""
        return {
            "limits.cpu": f"{self.limits_cpu}",
            "limits.memory": f"{self.limits_memory_gib}Gi",
            "requests.storage": f"{self.requests_storage_gib}Gi",
            "pods": f"{self.pods}",
        }


def variables(nonce: str) -> Variables:
    """The figures of the learner with this nonce.

    The ranges, inclusive, follow helpers/stack/quota.py: both workloads take 14 CPUs, 80 GiB and
    320 GiB of storage, a second vLLM makes that 24, 144 and 440; objects may be at most 20.

    Args:
        nonce: the learner's, as the class folder keeps it; any text that is not empty.
    """
    if not nonce:
        raise ValueError("a learner without a nonce has no figures of their own")
    return Variables(
        seat=f"seat-{_digest(nonce, 'seat')[:8]}",
        limits_cpu=_between(nonce, "limits.cpu", 14, 22),
        limits_memory_gib=_between(nonce, "limits.memory", 96, 140),
        requests_storage_gib=_between(nonce, "requests.storage", 400, 436),
        pods=_between(nonce, "pods", 8, 16),
        collection=f"course_docs_{_digest(nonce, 'collection')[:6]}",
    )


def _digest(nonce: str, name: str) -> str:
    return hmac.new(nonce.encode(), _PURPOSE + name.encode(), hashlib.sha256).hexdigest()


def _between(nonce: str, name: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`; 64 bits make the bias of the remainder meaningless."""
    return low + int(_digest(nonce, name)[:16], 16) % (high - low + 1)
