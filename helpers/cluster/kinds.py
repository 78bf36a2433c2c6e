"""Which path an object lives under: the built-in kinds, known without asking.

Built-in kinds are part of Kubernetes' stable API, so the first read costs no discovery. Anything
else is asked of the cluster at hand and remembered for that connection only: the official client
keeps its answers in a file named after the host, which two clusters on one address would share.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ResourceType:
    """A kind of object as the API serves it."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As manifests write it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As messages and RBAC write it: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of a subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


_TABLE = """
- v1: Namespace* Node* PersistentVolume* Pod Service ConfigMap Secret ServiceAccount PersistentVolumeClaim ResourceQuota LimitRange Event Endpoints ReplicationController
apps v1: Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision
batch v1: Job CronJob
autoscaling v2: HorizontalPodAutoscaler
policy v1: PodDisruptionBudget
networking.k8s.io v1: NetworkPolicy Ingress IngressClass*
rbac.authorization.k8s.io v1: Role RoleBinding ClusterRole* ClusterRoleBinding*
storage.k8s.io v1: StorageClass* VolumeAttachment* CSIDriver* CSINode*
scheduling.k8s.io v1: PriorityClass*
discovery.k8s.io v1: EndpointSlice
coordination.k8s.io v1: Lease
node.k8s.io v1: RuntimeClass*
admissionregistration.k8s.io v1: ValidatingAdmissionPolicy* ValidatingAdmissionPolicyBinding* ValidatingWebhookConfiguration* MutatingWebhookConfiguration*
apiextensions.k8s.io v1: CustomResourceDefinition*
apiregistration.k8s.io v1: APIService*
certificates.k8s.io v1: CertificateSigningRequest*
resource.k8s.io v1: ResourceClaim ResourceClaimTemplate DeviceClass* ResourceSlice*
"""


def plural_of(kind: str) -> str:
    """The plural that Kubernetes' own kinds use; custom resources are discovered instead."""
    lower = kind.lower()
    if lower.endswith("y"):
        return f"{lower[:-1]}ies"
    if lower == "endpoints":
        return lower
    return f"{lower}es" if lower.endswith(("s", "x")) else f"{lower}s"


def _parse(table: str) -> tuple[ResourceType, ...]:
    types = []
    for line in table.strip().splitlines():
        where, _, kinds = line.partition(": ")
        group, version = where.split()
        for word in kinds.split():
            kind = word.rstrip("*")
            types.append(
                ResourceType(kind, "" if group == "-" else group, version, plural_of(kind), word == kind)
            )
    return tuple(types)


BUILTIN = _parse(_TABLE)


def choose(types: tuple[ResourceType, ...], kind: str, api_version: str | None) -> ResourceType | None:
    """The first type of that kind (any case, or its plural) in that API version, or in any."""
    wanted = kind.lower()
    return next(
        (
            found
            for found in types
            if (found.kind == kind or wanted in (found.kind.lower(), found.plural))
            and (api_version is None or found.api_version == api_version)
        ),
        None,
    )
