"""What a learner may do in a shared cluster, and what holds them to it: every object, as data.

Three kinds of guard, each where it is strongest. *Roles* bound in the learner's own namespaces give
just what the labs need; nothing is bound outside but reading of nodes, storage classes and the
course's profile. *Quotas and limit ranges* of the instructor stand beside the labs' own quota, under
names that the learner's roles do not let them change. *Admission policies* stop what roles cannot
tell apart: a pod-security label on a namespace that the learner may label, a pod with a system
priority, a Service that claims an address outside.

The labs write with server-side apply, whose URL has the object's name: RBAC's `resourceNames` hold
there for creating too.
"""

from __future__ import annotations

import json
from typing import Any

from helpers.classroom.folder import Member
from helpers.classroom.seats.variables import Variables, variables
from helpers.cluster.leftovers import CLASS_LABEL
from helpers.cluster.scope import COURSE_NAMESPACES, Scope

Manifest = dict[str, Any]

MANAGER = "course-class"
LEARNER_LABEL = "course.llm-stack/learner"
RESERVED_LABELS = ("pod-security.kubernetes.io/", "course.llm-stack/")
LIMITS = "course-limits"
SEAT = "course-seat"
TURN = "gpu-turn"
QUEUE = "gpu-queue"
LAB_QUOTA = "llm-system-quota"
BATCH_QUOTA = "llm-batch-quota"

SYSTEM, APPS, WORKSHOP, PROBES = "llm-system", "llm-apps", "llm-workshop", "llm-probes"
GATEWAY, OBSERVABILITY, BATCH = "llm-gateway", "llm-observability", "llm-batch"
WORK_NAMESPACES = (SYSTEM, APPS, GATEWAY, OBSERVABILITY, BATCH, WORKSHOP)
CALLER_NAMESPACES = ("llm-outside", "llm-monitoring", "llm-impostor")
ROLE_LABEL = {"kubedojo.dev/role": "llm-apps"}
# What the labs expect to find on the namespaces that the instructor makes for them.
EXPECTED_LABELS = {APPS: ROLE_LABEL, "llm-impostor": ROLE_LABEL}
# A probe in the node's own network shows whether a target is alive: nobody but the instructor starts it.
POD_SECURITY = {PROBES: "privileged", **dict.fromkeys(CALLER_NAMESPACES, "restricted")}

_READ = ["get", "list", "watch"]
_WRITE = ["create", "update", "patch", "delete"]
_ALL = [*_READ, *_WRITE]
# The ConfigMaps of llm-apps that labs write: `course-seat`, which lies there too, is not among them.
# Nor are the records of break-glass: a learner makes one, and nobody but the instructor changes it.
_APPS_CONFIG_MAPS = (
    *("game-day-answer", "llm-orchestrator-config", "llm-orchestrator-decisions"),
    *("llm-assistant-config", "llm-assistant-decisions"),
    *("llm-eval-sets", "llm-eval-gate", "llm-eval-baseline", "llm-prices"),
    *("llm-jobs-config", "llm-jobs-decisions", "incident-diagnosis"),
)


def prefix(class_name: str) -> str:
    """The class's own namespace, and what the names of its cluster-wide objects begin with."""
    return f"course-class-{class_name}"


def namespaces_of(member: Member) -> list[str]:
    """The real names of a learner's namespaces."""
    scope = Scope(member.suffix)
    return [scope.namespace(name) for name in COURSE_NAMESPACES]


# The class


def class_objects(class_name: str) -> list[Manifest]:
    """What all learners of a class share: its namespace, the roles, and the admission policies."""
    return [
        _namespace(prefix(class_name), class_name, {}),
        *_roles(class_name),
        *_readers(class_name),
        *_seat_policy(class_name),
        *_work_policy(class_name),
    ]


def _roles(class_name: str) -> list[Manifest]:
    """The roles that are bound in the learners' namespaces: what may be done there."""
    rules = {
        "system": [
            *_work_rules(),
            _rule("", ["configmaps"], _ALL),
            *_quota_rules(LAB_QUOTA),
            *_scaling_rules(),
        ],
        "batch": [
            *_work_rules(),
            _rule("", ["configmaps"], _ALL),
            *_quota_rules(BATCH_QUOTA),
            *_scaling_rules(),
        ],
        "workshop": [*_work_rules(), _rule("", ["configmaps"], _ALL)],
        "apps": [*_work_rules(), *_apps_config_rules(), *_scaling_rules()],
        "callers": _caller_rules(),
        "probes": _probe_rules(),
    }
    return [
        _object("rbac.authorization.k8s.io/v1", "ClusterRole", f"{prefix(class_name)}-{name}", class_name)
        | {"rules": found}
        for name, found in rules.items()
    ]


def _role_in(namespace: str) -> str:
    named = {SYSTEM: "system", APPS: "apps", BATCH: "batch", PROBES: "probes"}
    named |= dict.fromkeys((WORKSHOP, GATEWAY, OBSERVABILITY), "workshop")
    return named.get(namespace, "callers")


def _work_rules() -> list[Manifest]:
    """What the labs do in the namespaces in which learners work."""
    return [
        # A role in a namespace speaks for that namespace object too; deleting it is the instructor's.
        _rule("", ["namespaces"], ["get", "patch", "update"]),
        _rule("", ["pods", "services", "secrets", "persistentvolumeclaims"], _ALL),
        _rule("", ["pods/exec", "pods/portforward"], ["get", "create"]),
        _rule("", ["pods/log", "pods/status", "resourcequotas", "limitranges", "endpoints"], _READ),
        _rule("", ["pods/eviction"], ["create"]),
        _rule("", ["services/proxy"], ["get", "create", "update", "patch", "delete"]),
        _rule("", ["events"], _READ),
        _rule("events.k8s.io", ["events"], _READ),
        _rule("apps", ["deployments", "statefulsets", "replicasets"], _ALL),
        _rule("apps", ["deployments/scale", "statefulsets/scale"], ["get", "update", "patch"]),
        _rule("apps", ["controllerrevisions"], _READ),
        _rule("batch", ["jobs", "cronjobs"], _ALL),
        _rule("policy", ["poddisruptionbudgets"], _ALL),
        _rule("autoscaling", ["horizontalpodautoscalers"], _ALL),
        _rule("networking.k8s.io", ["networkpolicies"], _ALL),
        _rule("discovery.k8s.io", ["endpointslices"], _READ),
        _rule("coordination.k8s.io", ["leases"], _ALL),
    ]


def _quota_rules(name: str) -> list[Manifest]:
    """The quota of lab 01, or of lab 08, is the learner's; the instructor's, beside it, is not."""
    return [
        _rule("", ["resourcequotas"], ["create"]),
        _rule("", ["resourcequotas"], ["update", "patch", "delete"], [name]),
    ]


def _scaling_rules() -> list[Manifest]:
    """What lab 08 writes for the operators, which are the instructor's, and what an HPA on CPU reads."""
    return [
        _rule("monitoring.coreos.com", ["servicemonitors", "podmonitors", "prometheusrules"], _ALL),
        _rule("keda.sh", ["scaledobjects"], _ALL),
        _rule("metrics.k8s.io", ["pods"], ["get", "list"]),
    ]


def _apps_config_rules() -> list[Manifest]:
    return [
        _rule("", ["configmaps"], [*_READ, "create"]),
        _rule("", ["configmaps"], ["update", "patch", "delete"], list(_APPS_CONFIG_MAPS)),
        # The orchestrator has an identity of its own; nothing is bound to it, and no token is given out for it.
        _rule("", ["serviceaccounts"], _ALL),
        # The controller and the kinds are the instructor's. A release is promoted and aborted by its status.
        _rule("argoproj.io", ["rollouts", "analysistemplates", "analysisruns"], _ALL),
        _rule("argoproj.io", ["rollouts/status", "rollouts/scale"], ["get", "update", "patch"]),
    ]


def _caller_rules() -> list[Manifest]:
    """Where the grader's callers live: a learner starts them and asks them, and nothing else."""
    return [
        _rule("", ["namespaces"], ["get", "patch", "update"]),
        _rule("", ["pods"], _ALL),
        _rule("", ["pods/exec"], ["get", "create"]),
        _rule("", ["pods/log", "events", "resourcequotas"], _READ),
        _rule("networking.k8s.io", ["networkpolicies"], _READ),
    ]


def _probe_rules() -> list[Manifest]:
    """The experiments' journals are the learner's own claim; the pods here are the instructor's."""
    return [
        _rule("", ["namespaces"], ["get", "patch"]),
        _rule("", ["configmaps", "secrets"], _ALL),
        _rule("", ["pods", "events", "resourcequotas"], _READ),
        _rule("networking.k8s.io", ["networkpolicies"], _READ),
    ]


def _readers(class_name: str) -> list[Manifest]:
    """What every learner may read outside their namespaces, bound to the class as a group."""
    name = prefix(class_name)
    rbac = "rbac.authorization.k8s.io/v1"
    cluster_wide = [
        _rule("", ["nodes"], _READ),
        _rule("storage.k8s.io", ["storageclasses"], _READ),
    ]
    system = [
        _rule("", ["namespaces"], ["get"]),
        _rule("", ["pods", "services"], ["get", "list"]),
        _rule("networking.k8s.io", ["networkpolicies"], ["get", "list"]),
        _rule("discovery.k8s.io", ["endpointslices"], ["get", "list"]),
    ]
    inside = {
        "kube-public": [_rule("", ["configmaps"], ["get"], ["course-profile"])],
        "kube-system": system,
        "default": [_rule("discovery.k8s.io", ["endpointslices"], ["get", "list"])],
        name: [_rule("", ["configmaps"], ["get"], [QUEUE])],
    }
    objects = [
        _object(rbac, "ClusterRole", f"{name}-reader", class_name) | {"rules": cluster_wide},
        _object(rbac, "ClusterRoleBinding", f"{name}-reader", class_name)
        | _binding("ClusterRole", f"{name}-reader", _group(name)),
    ]
    for namespace, rules in inside.items():
        objects += [
            _object(rbac, "Role", name, class_name, namespace) | {"rules": rules},
            _object(rbac, "RoleBinding", name, class_name, namespace) | _binding("Role", name, _group(name)),
        ]
    return objects


def _seat_policy(class_name: str) -> list[Manifest]:
    """Learners may label their namespaces; what pod security and the class put there stays."""
    reserved = " || ".join(f"k.startsWith('{start}')" for start in RESERVED_LABELS)
    same = (
        f"variables.was.all(k, !({reserved}) || (k in variables.is && variables.is[k] == variables.was[k]))"
    )
    none_new = f"variables.is.all(k, !({reserved}) || k in variables.was)"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [_admission_rule("", ["namespaces"], ["UPDATE"])]},
        "matchConditions": [
            {
                "name": "by-a-learner",
                "expression": f"'system:serviceaccounts:{prefix(class_name)}' in request.userInfo.groups",
            }
        ],
        "variables": [
            {"name": "was", "expression": "oldObject.metadata.?labels.orValue({})"},
            {"name": "is", "expression": "object.metadata.?labels.orValue({})"},
        ],
        "validations": [
            {
                "expression": f"{same} && {none_new}",
                "message": "labels of pod security and of the class are the instructor's",
            },
            {
                "expression": "object.metadata.?finalizers.orValue([]) == oldObject.metadata.?finalizers.orValue([])",
                "message": "finalizers of a namespace are the instructor's",
            },
        ],
    }
    return _policy(f"{prefix(class_name)}-seats", class_name, spec)


def _work_policy(class_name: str) -> list[Manifest]:
    """In the class's namespaces, whoever asks: no system priority, no addresses of others."""
    rules = [
        _admission_rule("", ["pods"], ["CREATE"]),
        _admission_rule("", ["services"], ["CREATE", "UPDATE"]),
    ]
    selector = {"matchLabels": {CLASS_LABEL: class_name}}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
        "validations": [
            {
                "expression": "request.resource.resource != 'pods'"
                " || !object.spec.?priorityClassName.orValue('').startsWith('system-')",
                "message": "system priorities would evict the pods of others",
            },
            {
                "expression": "request.resource.resource != 'services' || size(object.spec.?externalIPs.orValue([])) == 0",
                "message": "externalIPs would take over addresses of others",
            },
        ],
    }
    return _policy(f"{prefix(class_name)}-work", class_name, spec)


# One learner


def member_objects(class_name: str, member: Member) -> list[Manifest]:
    """All that one learner has on the shared cluster, but for the token: namespaces, bounds, rights, seat."""
    scope, objects = Scope(member.suffix), []
    for name in COURSE_NAMESPACES:
        real = scope.namespace(name)
        labels = {
            LEARNER_LABEL: member.suffix,
            "pod-security.kubernetes.io/enforce": POD_SECURITY.get(name, "baseline"),
            **EXPECTED_LABELS.get(name, {}),
        }
        objects += [
            _namespace(real, class_name, labels),
            *_limits(name, real, class_name),
            _object("rbac.authorization.k8s.io/v1", "RoleBinding", "course-learner", class_name, real)
            | _binding("ClusterRole", f"{prefix(class_name)}-{_role_in(name)}", _subject(class_name, member)),
        ]
    return [*objects, *_identity(class_name, member), seat(class_name, member)]


def _identity(class_name: str, member: Member) -> list[Manifest]:
    """The ServiceAccount, and a Secret that its token is bound to: without it the token is worth nothing."""
    home = prefix(class_name)
    account = _object("v1", "ServiceAccount", member.suffix, class_name, home)
    handout = _object("v1", "Secret", handout_secret(member), class_name, home)
    for item in (account, handout):
        item["metadata"]["labels"][LEARNER_LABEL] = member.suffix
    return [account | {"automountServiceAccountToken": False}, handout | {"type": "Opaque"}]


def handout_secret(member: Member) -> str:
    """The Secret whose life is the life of the learner's token."""
    return f"handout-{member.suffix}"


def seat(class_name: str, member: Member) -> Manifest:
    """The learner's seat: who this is for the grader, and the figures that are theirs alone."""
    own: Variables = variables(member.nonce)
    data = {
        "learner": member.learner.id,
        "class": class_name,
        "nonce": member.nonce,
        "variables": json.dumps(own.to_dict(), sort_keys=True),
    }
    namespace = Scope(member.suffix).namespace(APPS)
    return _object("v1", "ConfigMap", SEAT, class_name, namespace) | {"data": data}


# Bounds. They are above what the labs' own quota must refuse (lab 01 asks for 5 CPUs requested, 24 in
# limits, 52 and 144 GiB, 440 GiB of claims), so that they never answer in its place.

_SYSTEM_HARD = {
    "requests.cpu": "8",
    "limits.cpu": "32",
    "requests.memory": "64Gi",
    "limits.memory": "192Gi",
    "requests.storage": "1Ti",
    "persistentvolumeclaims": "24",
    "pods": "24",
}
_WORK_HARD = {
    "requests.cpu": "4",
    "limits.cpu": "40",
    "requests.memory": "8Gi",
    "limits.memory": "32Gi",
    "requests.storage": "20Gi",
    "persistentvolumeclaims": "4",
    "pods": "40",
}
_CALLER_HARD = {"pods": "3", "requests.cpu": "100m", "limits.cpu": "2", "requests.memory": "256Mi"}
_OBJECTS_HARD = {
    "services": "20",
    "services.nodeports": "0",
    "services.loadbalancers": "0",
    "secrets": "50",
    "configmaps": "100",
    "count/jobs.batch": "40",
    "count/deployments.apps": "20",
    "count/statefulsets.apps": "10",
}
_DEFAULTS = {
    "type": "Container",
    "default": {"cpu": "500m", "memory": "256Mi"},
    "defaultRequest": {"cpu": "10m", "memory": "16Mi"},
}


def _limits(name: str, real: str, class_name: str) -> list[Manifest]:
    """The instructor's quota; with defaults where the labs' pods do not state what they take."""
    if name == PROBES:
        return []
    bounds = {
        SYSTEM: _SYSTEM_HARD,
        BATCH: _SYSTEM_HARD,
        **dict.fromkeys((APPS, GATEWAY, OBSERVABILITY, WORKSHOP), _WORK_HARD),
    }
    hard = bounds.get(name, _CALLER_HARD)
    quota = _object("v1", "ResourceQuota", LIMITS, class_name, real)
    objects = [quota | {"spec": {"hard": hard | _OBJECTS_HARD}}]
    if name != SYSTEM:  # there a lab's own quota must be the one that asks for figures
        limit_range = _object("v1", "LimitRange", LIMITS, class_name, real)
        objects.append(limit_range | {"spec": {"limits": [_DEFAULTS]}})
    return objects


def closed_turn(class_name: str, real: str, resources: list[str]) -> Manifest:
    """The quota that keeps a namespace from every GPU resource while it is somebody else's turn."""
    quota = _object("v1", "ResourceQuota", TURN, class_name, real)
    return quota | {"spec": {"hard": {f"requests.{resource}": "0" for resource in resources}}}


# Shapes of objects


def _object(api: str, kind: str, name: str, class_name: str, namespace: str | None = None) -> Manifest:
    metadata: Manifest = {"name": name, "labels": {CLASS_LABEL: class_name}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata}


def _namespace(name: str, class_name: str, labels: dict[str, str]) -> Manifest:
    found = _object("v1", "Namespace", name, class_name)
    found["metadata"]["labels"] |= labels
    return found


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Manifest:
    rule: Manifest = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return rule | {"resourceNames": names} if names else rule


def _binding(kind: str, role: str, subject: Manifest) -> Manifest:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    return {"roleRef": reference, "subjects": [subject]}


def _group(namespace: str) -> Manifest:
    """Every ServiceAccount of the class's namespace, as the API server groups them."""
    name = f"system:serviceaccounts:{namespace}"
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name}


def _subject(class_name: str, member: Member) -> Manifest:
    return {"kind": "ServiceAccount", "name": member.suffix, "namespace": prefix(class_name)}


def _admission_rule(group: str, resources: list[str], operations: list[str]) -> Manifest:
    return {"apiGroups": [group], "apiVersions": ["v1"], "resources": resources, "operations": operations}


def _policy(name: str, class_name: str, spec: Manifest) -> list[Manifest]:
    api = "admissionregistration.k8s.io/v1"
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return [
        _object(api, "ValidatingAdmissionPolicy", name, class_name) | {"spec": spec},
        _object(api, "ValidatingAdmissionPolicyBinding", name, class_name) | {"spec": binding},
    ]
