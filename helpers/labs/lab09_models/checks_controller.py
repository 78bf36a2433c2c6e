"""Checks of the controller: what it makes of an InferenceService, keeps so, refuses, and says.

Whether the learner's model is served is asked of the cluster itself. What becomes of children that are deleted, edited
or misspelled is seen by witnesses, with InferenceServices of their own; a record counts for as long as controller and
functions are those that it saw. No check changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidManifest, ObjectMissing
from helpers.grading import Verdict, not_attempted
from helpers.labs import witnessing
from helpers.labs.lab09_models import witness_controller
from helpers.labs.lab09_models.lab import lab
from helpers.labs.lab09_models.witness_controller import faults_of, is_current, ready_of
from helpers.labs.witnessing import several
from helpers.stack import isvc, models

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.grading.declare import CheckFunction

NAMESPACE, NAME = isvc.NAMESPACE, "smollm"
PORT = 80
# Three tokens, on a machine that has other work.
ANSWER_S = 15.0


def witnessed(name: str) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that gets what a witness of the controller saw, if its record counts."""

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def judged(cluster: ClusterView) -> Verdict:
            if isvc.kserve_runs(cluster):
                return not_attempted("the course's controller", "KServe itself runs on this cluster")
            if not isvc.delivered(cluster):
                return not_attempted(f"ConfigMap {isvc.DECISIONS} with {isvc.FILE}", "there is none")
            return witnessing.verdict_on(witness_controller.BOOK, cluster, name, check)

        return judged

    return wrap


@lab.check("controller.serves", points=4, task="served", timeout_s=30)
def an_inference_service_answers(cluster: ClusterView) -> Verdict:
    """InferenceService `smollm` names a version of the model by its digest and is Ready, what was made of it is its own, and the model answers through its Service.

    Why: Whoever wants a model should say which one, and not how a Deployment, a Service, a volume and their labels are spelled. That is written once, in the controller.
    Hint: The InferenceService names a runtime or a format, and a storageUri. If nothing comes of it, its status and the controller's log say why.
    Next: kubectl get isvc,deploy,svc -n llm-models
    """
    try:
        service = cluster.get(isvc.SERVICE, NAME, NAMESPACE)
    except (ObjectMissing, InvalidManifest):
        return not_attempted(f"InferenceService {NAME} in {NAMESPACE}", "there is none")
    try:
        faults = faults_of(cluster, service)
    except ObjectMissing as missing:
        faults = [str(missing)]
    said, answer = ready_of(service), _answer(cluster) if not faults else ""
    image = str(service.path("spec.predictor.model.storageUri", ""))
    version = models.version_of(models.versions(cluster), image.removeprefix("oci+native://"))
    return several(
        (not faults, "a Deployment and a Service of its own, with this model", (faults or [""])[0]),
        (
            bool(version),
            f"version {version} of the model, by its digest",
            f"{image or 'no storageUri'} is none of the versions by digest",
        ),
        (
            said.get("status") == "True" and is_current(service),
            "Ready, of its newest generation",
            f"Ready is {said.get('status') or 'not said'}: {said.get('reason') or 'no reason'}",
        ),
        (bool(faults) or not answer, f"{NAME} answers", answer),
    ).about(service)


def _answer(view: ClusterView) -> str:
    """Empty where the model answers under its InferenceService's name; else what was said."""
    body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 3, "temperature": 0}
    said = view.http(
        NAMESPACE, isvc.predictor(NAME), PORT, "/v1/completions", method="POST", json=body, timeout_s=ANSWER_S
    )
    try:
        found = json.loads(said.body) if said.ok else {}
    except ValueError:
        found = {}
    if found.get("model") == NAME and (found.get("usage") or {}).get("completion_tokens"):
        return ""
    return f"the Service says {said.status}: {' '.join(said.body.split())[:90]}"


@lab.check("controller.children", points=4, task="controller", timeout_s=20)
@witnessed("children")
def children_are_what_was_asked_for(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A model in an image and one on a claim are mounted read-only, the runtime is found by name and by format, arguments and resources are merged, and both children belong to their InferenceService.

    Why: A controller that knows one model by heart serves one model. What it makes follows from two objects, whatever they say.
    Hint: `oci+native://IMAGE` is an image volume, whose path is `models`; `pvc://CLAIM/PATH` is a claim. A runtime that is disabled, or that only serves whoever names it, is not found by format.
    Next: course witness children
    """
    return several(
        *(
            (not seen["faults"][about], said, (seen["faults"][about] or [""])[0])
            for about, said in (("image", "a model in an image"), ("claim", "and one on a claim"))
        ),
        (seen["answers"], "the server answers through the Service", "nobody answers through the Service"),
        (
            not seen["answers"] or seen.get("reads", False),
            "it reads the model",
            "the server finds no model at /mnt/models",
        ),
        (not seen.get("writes"), "and cannot write to it", "the server can write to the model"),
    )


@lab.check("controller.repairs", points=5, task="controller", timeout_s=20)
@witnessed("repair")
def children_come_back(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A child that somebody deletes or edits is as it should be again, also when it happened while no controller ran; and where nothing happens, nothing is written.

    Why: Events are lost: with a restart, a broken connection, an upgrade. A controller that acts on what it was told is wrong from then on; one that looks at what is there is late, and right.
    Hint: `wakes` says when to look, `step` what to do then. What is there already may not be what is wanted.
    Next: course witness repair
    """
    if not seen["made"]:
        return several((False, "a Deployment and a Service", "nothing was made of an InferenceService"))
    deleted = seen["deleted"]
    return several(
        *(
            (
                deleted[kind] is not None,
                f"a deleted {kind} is there again",
                f"a deleted {kind} did not come back",
            )
            for kind in ("Deployment", "Service")
        ),
        (seen["edited"] is not None, "an edit is undone", "what somebody edited stayed as it was"),
        (
            seen["missed"] is not None,
            "also what happened while the controller was away",
            "what happened while the controller was away was never repaired",
        ),
        (seen["answers"], "and the server answers", "nobody answers through the Service in the end"),
        (
            seen["writes"] == 0,
            "at rest nothing is written",
            f"{seen['writes']} writes within {witness_controller.CALM_S:.0f} s in which nothing happened",
        ),
    )


@lab.check("controller.status", points=4, task="controller", timeout_s=20)
@witnessed("conditions")
def the_status_says_what_was_seen(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Ready is said when pods of the newest specification serve, not before, and not of a change whose pods never do; and the status names the generation that it is about.

    Why: Whoever rolls out waits for Ready. A status that repeats what was asked for says so in the moment of asking.
    Hint: While a change rolls out, the old pods serve on and are counted as ready. `observedGeneration` and `updatedReplicas` tell them apart.
    Next: course witness conditions
    """
    if not seen["ready"] and not seen["early"]:
        said = f"Ready was never said: {seen['reason'] or 'no reason'}"
        return several((False, "Ready once the server serves", said))
    return several(
        (
            seen["early"] == 0 and seen["ready"],
            "Ready once the server serves",
            f"Ready was said {seen['early']} times before anybody served",
        ),
        (
            seen["current"],
            "of the generation that was looked at",
            "the status names another observedGeneration, or none",
        ),
        (
            seen.get("observed", False),
            "a change is seen",
            "observedGeneration did not follow a change of the InferenceService",
        ),
        (
            seen.get("untrue", 0) == 0,
            "and is not Ready while its pods do not serve",
            f"Ready was said {seen.get('untrue')} times of a change whose pods never served",
        ),
        (
            seen.get("mended", False),
            "and Ready again when it is taken back",
            "Ready did not come back when the change was taken back",
        ),
    )


_REFUSED = {
    "scheme": "a storageUri with s3://",
    "format": "a format that no runtime takes",
    "runtime": "a runtime that is not there",
}


@lab.check("controller.refuses", points=4, task="controller", timeout_s=20)
@witnessed("refusals")
def what_cannot_be_served_is_said(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """What cannot be served is told with Ready: False and the reason InvalidSpec, and nothing is half made; somebody else's Deployment of the same name is left alone; and what becomes right is served.

    Why: An error in a log is read by nobody who could correct it. And a controller that takes over what it finds under a name has deleted somebody's work.
    Hint: Raise InvalidSpec before anything is returned, and let `status` pass on the problem's reason. Whose a Deployment is, its owner references say, and not its name.
    Next: course witness refusals
    """
    refused, taken, later, came = seen["refused"], seen["taken"], seen["later"], seen["came"]
    return several(
        *(
            (
                (refused[about]["ready"], refused[about]["reason"]) == ("False", "InvalidSpec"),
                f"{said} is InvalidSpec",
                f"{said}: Ready is {refused[about]['ready']}, {refused[about]['reason'] or 'no reason'}",
            )
            for about, said in _REFUSED.items()
        ),
        (
            not any(item["children"] for item in refused.values()),
            "of which nothing is made",
            f"{sum(item['children'] for item in refused.values())} objects were made of what cannot be served",
        ),
        (
            all(item["current"] for item in (*refused.values(), later)),
            "of the generation that was looked at",
            "a refusal names another observedGeneration, or none",
        ),
        (
            later["reason"] == "InvalidSpec" and later["kept"],
            "one that becomes wrong keeps what serves",
            f"one that became wrong: {later['reason'] or 'no reason'}, "
            f"and its children {'stayed' if later['kept'] else 'were changed'}",
        ),
        (
            taken["untouched"] and not taken["half"],
            "somebody else's Deployment stays",
            "somebody else's Deployment of the same name was taken over"
            if not taken["untouched"]
            else "a Service was made beside somebody else's Deployment",
        ),
        (
            taken["ready"] in ("False", "Unknown"),
            "and is not served as one's own",
            f"Ready is {taken['ready']} where the name was taken",
        ),
        (
            None not in came.values(),
            "what becomes right is made",
            "nothing was made when the missing runtime came, or the name was free again",
        ),
    )


@lab.check("controller.ends", points=3, task="controller", timeout_s=20)
@witnessed("endings")
def nothing_is_left_behind(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """With an InferenceService its children go; under another name others come; and it can be deleted while no controller runs.

    Why: Deleting is the case that nobody tries. A model server without an owner holds a card until somebody wonders about the bill.
    Hint: The garbage collector deletes what names an owner that is gone, by its uid. It needs no controller for that.
    Next: course witness endings
    """
    return several(
        (seen["made"], "children of the first name", "nothing was made of an InferenceService"),
        (seen["gone"], "which go with it", f"left of the first name: {', '.join(seen['left']) or 'nothing'}"),
        (seen["new"], "and come under the second", "nothing was made under the second name"),
        (
            seen["ended"],
            "it ends without a controller",
            "it could not be deleted while no controller ran",
        ),
        (not seen["orphans"], "and leaves nothing", f"left behind: {', '.join(seen['orphans'])}"),
    )
