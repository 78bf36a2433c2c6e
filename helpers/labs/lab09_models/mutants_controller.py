"""Wrong clusters for the controller: what a learner applied, and what a witness then sees of their functions.

That a wrong function leaves just such a record is played in tests/unit/test_isvc_witness.py.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Manifest, edited, one, steps, without
from helpers.grading.verdict import Status
from helpers.labs import witnessed_fakes
from helpers.labs.lab09_models.proof_controller import answers, delivered, functions_text, objects, serving
from helpers.labs.lab09_models.witness_controller import BOOK
from helpers.labs.witnessed_fakes import forged
from helpers.stack import isvc

SERVES, CHILDREN, REPAIRS = "controller.serves", "controller.children", "controller.repairs"
STATUS, REFUSES, ENDS = "controller.status", "controller.refuses", "controller.ends"
BY_WITNESS = (CHILDREN, REPAIRS, STATUS, REFUSES, ENDS)
NAMESPACE, NAME, CHILD = isvc.NAMESPACE, "smollm", isvc.predictor("smollm")
NOT_YET = Status.NOT_ATTEMPTED
CHANGED = "the service was changed since it was seen"
_REFUSAL: Manifest = {"ready": "False", "reason": "InvalidSpec", "current": True, "children": 0}
# What the witnesses see where all is well.
SEEN: dict[str, Manifest] = {
    "children": {
        "faults": {"image": [], "claim": []},
        "host": "w1-image-predictor",
        "answers": True,
        "reads": True,
        "writes": False,
    },
    "repair": {
        "made": True,
        "deleted": {"Deployment": 0.9, "Service": 0.8},
        "edited": 0.8,
        "missed": 4.2,
        "writes": 0,
        "answers": True,
    },
    "conditions": {
        "ready": True,
        "early": 0,
        "serving": 1,
        "current": True,
        "reason": "Serving",
        "answers": True,
        "observed": True,
        "untrue": 0,
        "kept": 1,
        "mended": True,
    },
    "refusals": {
        "refused": {about: dict(_REFUSAL) for about in ("scheme", "format", "runtime")},
        "taken": {"untouched": True, "half": False, "ready": "False"},
        "later": {**_REFUSAL, "children": 2, "kept": True},
        "came": {"runtime": 0.9, "taken": 1.1},
    },
    "endings": {"made": True, "gone": True, "left": [], "new": True, "ended": True, "orphans": []},
}


def records(cluster: Any) -> None:
    """All five have looked, and saw what is right."""
    for name in SEEN:
        witnessed(name)(cluster)


def witnessed(
    name: str, edit: Callable[[Manifest], object] = lambda seen: None, *, error: str = ""
) -> Change:
    """A record of this witness on the cluster as it is; edited, or with why it could not look."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN[name])
        edit(seen)
        witnessed_fakes.leave(cluster, BOOK, name, {"error": error} if error else {"seen": seen})

    return change


def saw(name: str, **other: Any) -> Change:
    """A record in which some fields say something else."""
    return witnessed(name, lambda seen: seen.update(other))


def fault(about: str, said: str) -> Change:
    """A record of `children` in which something is not right with one of them."""
    return witnessed("children", lambda seen: seen["faults"].update({about: [said]}))


def refusal(about: str, **other: Any) -> Change:
    return witnessed("refusals", lambda seen: seen["refused"][about].update(other))


def by_hand(name: str, edit: Callable[[Manifest], object]) -> Change:
    """A record of a Job that is not the course's own."""
    return lambda cluster: witnessed_fakes.leave(cluster, BOOK, name, {"seen": SEEN[name]}, job=edit)


def _smollm(edit: Callable[[Manifest], object] = lambda model: None, **served: Any) -> Change:
    """The learner's InferenceService with something else in its model; the controller has followed."""

    def change(cluster: Any) -> None:
        wanted = one(objects("isvc_yaml"), "InferenceService")
        edit(wanted["spec"]["predictor"]["model"])
        serving(wanted, **served)(cluster)

    return change


def _child(kind: str, edit: Callable[[Manifest], object]) -> Change:
    return edited(kind, CHILD, edit, NAMESPACE)


def _by_hand_alone(cluster: Any) -> None:
    """Somebody wrote Deployment and Service themselves: there is no owner."""
    for kind in ("Deployment", "Service"):
        _child(kind, lambda found: found["metadata"].pop("ownerReferences"))(cluster)


def _copied(found: Manifest) -> None:
    pod = found["spec"]["template"]["spec"]
    pod["volumes"] = [
        *(item for item in pod["volumes"] if item["name"] != "model"),
        {"name": "model", "emptyDir": {}},
    ]


def _stale(found: Manifest) -> None:
    found["status"]["observedGeneration"] = found["metadata"]["generation"] - 1


def _another_server(found: Manifest) -> None:
    found["spec"]["selector"] = {"app": "by-image"}


_NONE = steps(
    without("ConfigMap", isvc.DECISIONS, NAMESPACE),
    without(isvc.SERVICE, NAME, NAMESPACE),
)
_OTHER_FUNCTIONS = delivered(functions_text() + "\n# another word\n")


MUTANTS = [
    Mutant(
        "no functions and no InferenceService",
        _NONE,
        {
            SERVES: "there is none",
            **dict.fromkeys(BY_WITNESS, "there is none"),
        },
        NOT_YET,
    ),
    # The model is served
    Mutant(
        "a Deployment and a Service by hand", _by_hand_alone, {SERVES: "has no owner reference to smollm"}
    ),
    Mutant(
        "somebody else's Deployment of that name",
        _child("Deployment", lambda found: found["metadata"]["ownerReferences"][0].update(uid="another")),
        {SERVES: "Deployment smollm-predictor has no owner reference"},
    ),
    Mutant(
        "an owner that is no controller",
        _child("Service", lambda found: found["metadata"]["ownerReferences"][0].pop("controller")),
        {SERVES: "names smollm as an owner, not as its controller"},
    ),
    Mutant("a copy of the model", _child("Deployment", _copied), {SERVES: "at /mnt/models is emptyDir"}),
    Mutant(
        "a Service that leads to another server",
        _child("Service", _another_server),
        {SERVES: "selects no pod"},
    ),
    Mutant(
        "no Service of the predictor",
        without("Service", CHILD, NAMESPACE),
        {SERVES: "there is no Service smollm-predictor"},
    ),
    Mutant("another model behind the Service", answers(NAME, model="base"), {SERVES: "the Service says 200"}),
    Mutant("a model server that ends", _smollm(serves=False), {SERVES: "the Service says 503"}),
    Mutant(
        "nobody has looked since the change",
        edited(isvc.SERVICE, NAME, _stale, NAMESPACE),
        {SERVES: "Ready is True"},
    ),
    Mutant("not Ready", _smollm(ready="False"), {SERVES: "Ready is False: PredictorNotReady"}),
    Mutant(
        "a tag in place of a digest",
        _smollm(
            lambda model: model.update(
                storageUri="oci+native://course.local/models/smollm2-135m-instruct:stable"
            )
        ),
        {SERVES: "none of the versions by digest"},
    ),
    Mutant(
        "a runtime that is not there",
        edited(
            isvc.SERVICE,
            NAME,
            lambda found: found["spec"]["predictor"]["model"].update(runtime="tgi"),
            NAMESPACE,
        ),
        {SERVES: "no ServingRuntime named tgi"},
    ),
    Mutant(
        "no InferenceService",
        without(isvc.SERVICE, NAME, NAMESPACE),
        {SERVES: "there is none"},
        NOT_YET,
    ),
    # What is made
    Mutant(
        "no owner references",
        fault("image", "Deployment w1-image-predictor has no owner reference to w1-image"),
        {CHILDREN: "has no owner reference"},
    ),
    Mutant(
        "a runtime by name alone",
        fault("image", "there is no Deployment and no Service w1-image-predictor"),
        {CHILDREN: "there is no Deployment"},
    ),
    Mutant(
        "the first runtime of the format, which is disabled",
        fault("image", "the server is not that of the runtime w1"),
        {CHILDREN: "not that of the runtime"},
    ),
    Mutant(
        "a claim that can be written",
        fault("claim", "the model is not mounted read-only"),
        {CHILDREN: "not mounted read-only"},
    ),
    Mutant(
        "the whole claim in place of a path",
        fault("claim", "at /mnt/models is the path /, not some/model"),
        {CHILDREN: "is the path /"},
    ),
    Mutant(
        "arguments in place of the runtime's",
        fault("image", "its arguments are not the runtime's, and then the InferenceService's own"),
        {CHILDREN: "its arguments are not the runtime's"},
    ),
    Mutant(
        "one selector for all",
        fault("image", "Service w1-image-predictor selects pods of other InferenceServices too"),
        {CHILDREN: "selects pods of other InferenceServices"},
    ),
    Mutant(
        "a port that nobody has",
        saw("children", answers=False),
        {CHILDREN: "nobody answers through the Service"},
    ),
    Mutant(
        "an image without a path", saw("children", reads=False), {CHILDREN: "finds no model at /mnt/models"}
    ),
    Mutant(
        "a server that writes to its model",
        saw("children", writes=True),
        {CHILDREN: "can write to the model"},
    ),
    # What is repaired
    Mutant("create only", saw("repair", edited=None), {REPAIRS: "what somebody edited stayed"}),
    Mutant(
        "by events of the InferenceService alone",
        saw("repair", deleted={"Deployment": None, "Service": None}),
        {REPAIRS: "a deleted Deployment did not come back"},
    ),
    Mutant(
        "the Deployment alone is watched",
        saw("repair", deleted={"Deployment": 0.9, "Service": None}),
        {REPAIRS: "a deleted Service did not come back"},
    ),
    Mutant("by events alone", saw("repair", missed=None), {REPAIRS: "while the controller was away"}),
    Mutant("a status that is never the same", saw("repair", writes=21), {REPAIRS: "21 writes within 12 s"}),
    Mutant("nothing is made", saw("repair", made=False), {REPAIRS: "nothing was made"}),
    Mutant(
        "a server that nobody reaches",
        saw("repair", answers=False),
        {REPAIRS: "nobody answers through the Service"},
    ),
    # What is said
    Mutant(
        "Ready in the moment of making", saw("conditions", early=9), {STATUS: "9 times before anybody served"}
    ),
    Mutant(
        "Ready by the pods before",
        saw("conditions", untrue=27),
        {STATUS: "27 times of a change whose pods never served"},
    ),
    Mutant(
        "no generation",
        saw("conditions", current=False, observed=False),
        {STATUS: "another observedGeneration"},
    ),
    Mutant(
        "the generation of the beginning",
        saw("conditions", observed=False),
        {STATUS: "did not follow a change"},
    ),
    Mutant(
        "Ready is never said",
        saw("conditions", ready=False, reason="PredictorNotReady"),
        {STATUS: "Ready was never said: PredictorNotReady"},
    ),
    Mutant(
        "once False, for ever False", saw("conditions", mended=False), {STATUS: "Ready did not come back"}
    ),
    # What is refused
    Mutant(
        "a failure that goes to the log alone",
        refusal("scheme", ready=None, reason=""),
        {REFUSES: "s3://: Ready is None, no reason"},
    ),
    Mutant(
        "another word for what is wrong",
        refusal("format", reason="Error"),
        {REFUSES: "a format that no runtime takes: Ready is False, Error"},
    ),
    Mutant(
        "a format that nobody looks at",
        refusal("format", ready="True", reason="Serving", children=2),
        {REFUSES: "a format that no runtime takes: Ready is True"},
    ),
    Mutant("a Service without a Deployment", refusal("scheme", children=1), {REFUSES: "1 objects were made"}),
    Mutant(
        "a refusal of another generation",
        refusal("runtime", current=False),
        {REFUSES: "another observedGeneration"},
    ),
    Mutant(
        "a service deleted for a slip",
        saw("refusals", later={**_REFUSAL, "kept": False}),
        {REFUSES: "its children were changed"},
    ),
    Mutant(
        "somebody else's Deployment taken over",
        saw("refusals", taken={"untouched": False, "half": True, "ready": "True"}),
        {REFUSES: "was taken over"},
    ),
    Mutant(
        "a Service beside somebody else's Deployment",
        saw("refusals", taken={"untouched": True, "half": True, "ready": "False"}),
        {REFUSES: "beside somebody else's Deployment"},
    ),
    Mutant(
        "somebody else's pods counted as one's own",
        saw("refusals", taken={"untouched": True, "half": False, "ready": "True"}),
        {REFUSES: "Ready is True where the name was taken"},
    ),
    Mutant(
        "refused once, refused for ever",
        saw("refusals", came={"runtime": None, "taken": 0.9}),
        {REFUSES: "nothing was made when the missing runtime came"},
    ),
    # What ends
    Mutant(
        "children without an owner",
        saw("endings", gone=False, left=["Deployment", "Service"], orphans=["Deployment", "Service"]),
        {ENDS: "left of the first name: Deployment, Service"},
    ),
    Mutant(
        "an owner that is named by its name alone",
        saw("endings", orphans=["Deployment"]),
        {ENDS: "left behind: Deployment"},
    ),
    Mutant(
        "a finalizer", saw("endings", ended=False), {ENDS: "could not be deleted while no controller ran"}
    ),
    Mutant(
        "the second name is not seen",
        saw("endings", new=False),
        {ENDS: "nothing was made under the second name"},
    ),
    Mutant("nothing is made at all", saw("endings", made=False, new=False), {ENDS: "nothing was made"}),
    # Records
    Mutant(
        "functions delivered after the witnesses looked",
        _OTHER_FUNCTIONS,
        dict.fromkeys(BY_WITNESS, CHANGED),
        NOT_YET,
    ),
    Mutant(
        "another controller",
        edited(
            "Deployment",
            isvc.CONTROLLER,
            lambda found: found["spec"]["template"]["spec"]["containers"][0].update(args=["--quiet"]),
            NAMESPACE,
        ),
        dict.fromkeys(BY_WITNESS, CHANGED),
        NOT_YET,
    ),
    Mutant("a record of another pod", forged(BOOK, "repair"), {REPAIRS: "the record is another pod's"}),
    Mutant(
        "a witness of the learner's own",
        by_hand(
            "refusals", lambda job: job["spec"]["template"]["spec"]["containers"][0].update(command=["true"])
        ),
        {REFUSES: "command of witness is not the course's own"},
    ),
    Mutant(
        "nobody to ask",
        witnessed("conditions", error="TimeoutError: nobody answered 'waited'"),
        {STATUS: "nobody answered 'waited'"},
    ),
]
