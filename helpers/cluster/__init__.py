"""The live cluster: connect, read, ask, change, wait.

Nothing else in the course speaks Kubernetes' API. Reads and dry-runs are a ClusterView, changes a
Cluster, and both work on a real cluster or on the fake in `helpers.cluster.fake`.

Requests are made with urllib3 and answers stay plain objects: importing the official client costs
0.6 s on two cores and turning answers into its models more, while this package, its first read
included, takes 0.25 s. The official client is loaded only for kubeconfigs whose credentials an identity provider
renews (OIDC).
"""

from helpers.cluster.backend import ExecResult, Forward, HttpAnswer
from helpers.cluster.cluster import Applied, Cluster
from helpers.cluster.deadline import Clock, Deadline
from helpers.cluster.diffs import Change, FieldChange
from helpers.cluster.profile import Identity, Profile
from helpers.cluster.quantity import quantity, quantity_text
from helpers.cluster.resource import Pod, Resource, ResourceQuota, Workload
from helpers.cluster.scope import COURSE_NAMESPACES, Scope
from helpers.cluster.view import Admission, ClusterView
from helpers.cluster.waits import NotYet

__all__ = [
    "COURSE_NAMESPACES",
    "Admission",
    "Applied",
    "Change",
    "Clock",
    "Cluster",
    "ClusterView",
    "Deadline",
    "ExecResult",
    "FieldChange",
    "Forward",
    "HttpAnswer",
    "Identity",
    "NotYet",
    "Pod",
    "Profile",
    "Resource",
    "ResourceQuota",
    "Scope",
    "Workload",
    "quantity",
    "quantity_text",
]
