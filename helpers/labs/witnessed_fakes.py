"""What a witness leaves in a cluster, written by hand: for the mutants of labs that have witnesses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from helpers.grading.changes import Change, Manifest, edited, pod
from helpers.labs.witnessing import CONTAINER, Book

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

MadeWith = Callable[["ClusterView"], Mapping[str, Any]]


def leave(
    cluster: Any,
    book: Book,
    name: str,
    said: Mapping[str, Any],
    *,
    made_with: MadeWith = lambda view: {},
    job: Callable[[Manifest], object] = lambda job: None,
) -> None:
    """The Job as it would be started now, its pod, and what the pod says: `said` over a record of this state.

    Args:
        said: `seen` or `error`; may overwrite everything else of the record.
        made_with: `files` and `settings` of the present state.
        job: an edit of the Job, to be caught.
    """
    view = cluster.view()
    item = book.witnesses[name]
    wanted = book.make(view, name)
    job(wanted)
    (made,) = cluster.put({**wanted, "status": {"succeeded": 1}})
    pod_name = f"{item.job}-x"
    labels = {"batch.kubernetes.io/job-name": item.job}
    ended = pod(pod_name, wanted["spec"]["template"]["spec"], item.namespace, labels=labels, ran=(0, 10))
    ended["metadata"]["ownerReferences"] = [
        {"kind": "Job", "name": item.job, "apiVersion": "batch/v1", "uid": made.uid, "controller": True}
    ]
    record = {"witness": name, "job": made.uid, "pod": pod_name, **made_with(view), **said}
    for status in ended["status"]["containerStatuses"]:
        status["name"] = CONTAINER
        status["state"]["terminated"]["message"] = json.dumps(record)
    cluster.put(ended)


def forged(book: Book, name: str) -> Change:
    """A record in a pod that says it is another pod's."""
    witness = book.witnesses[name]
    return edited("Pod", f"{witness.job}-x", _foreign, witness.namespace)


def _foreign(found: Manifest) -> None:
    (status,) = found["status"]["containerStatuses"]
    record = json.loads(status["state"]["terminated"]["message"])
    status["state"]["terminated"]["message"] = json.dumps({**record, "pod": "another-pod"})
