"""A class on a fake cluster: where the proofs of checks run a second time, beside the class's own objects."""

from __future__ import annotations

from typing import Any

from helpers.classroom.folder import Member
from helpers.classroom.roster import Learner
from helpers.classroom.seats.rights import class_objects, member_objects
from helpers.grading.author import Setting

CLASS_NAME = "proof"
LEARNER = Member(Learner("ada", "Ada", "ada@example.org"), suffix="ada", nonce="0" * 32)


def in_a_class() -> Setting:
    """A learner's namespaces with the instructor's quotas, limits, labels and roles in them."""
    return Setting("in a class", _put, LEARNER.suffix)


def _put(cluster: Any) -> None:
    cluster.apply([*class_objects(CLASS_NAME), *member_objects(CLASS_NAME, LEARNER)])
