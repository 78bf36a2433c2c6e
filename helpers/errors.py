"""What can go wrong, by cause: one sentence each, and the next command to run.

Low-level exceptions (urllib3, kubernetes, httpx, OSError) are mapped to the most specific of
these at the edge where they happen, with the original chained as `__cause__`. The command line
prints the message and `next_command`, never a traceback.
"""

from __future__ import annotations


class LabError(Exception):
    """Something a learner or an instructor can act on."""

    def __init__(self, message: str, *, next_command: str = "") -> None:
        super().__init__(message)
        self.next_command = next_command


class EnvironmentFault(LabError):
    """The environment, not the learner: grading it gives ENV_ERROR and exit code 2."""


class ClusterUnreachable(EnvironmentFault):
    """The API server did not answer; nothing can be graded."""


class NoClusterChosen(ClusterUnreachable):
    """No cluster is running or chosen: `course up` or `course use --context NAME` comes first."""


class Forbidden(EnvironmentFault):
    """The credentials in use may not do this."""


class ServerFault(EnvironmentFault):
    """The API server answered with a 5xx or with something that is not Kubernetes' JSON."""


class ProbeInconclusive(EnvironmentFault):
    """The probe itself could not run, so it proves nothing."""


class ObjectMissing(LabError):
    """The object does not exist (yet): a check that needs it is NOT_ATTEMPTED."""

    def __init__(self, kind: str, name: str, namespace: str | None = None, *, next_command: str = "") -> None:
        where = f" in namespace {namespace}" if namespace else ""
        scope = f" -n {namespace}" if namespace else ""
        command = next_command or f"kubectl get {kind.lower()}{scope}"
        super().__init__(f"no {kind} named {name}{where}", next_command=command)
        self.kind, self.name, self.namespace = kind, name, namespace


class LogGone(LabError):
    """The kubelet has deleted the container, and its log with it."""


class Refused(LabError):
    """The API server refused the object: admission, validation or a conflict.

    `code` is the answer's HTTP status: 422 is about the object itself, 403 is admission's.
    """

    def __init__(self, message: str, *, code: int = 0, next_command: str = "") -> None:
        super().__init__(message, next_command=next_command)
        self.code = code


class ClaimInUse(Refused):
    """A pod uses the volume claim that would have to be made anew."""

    def __init__(self, pod: str, claim: str) -> None:
        super().__init__(f"pod {pod} uses the claim {claim}: delete that pod first, then the volume can go")
        self.pod = pod


class HalfReplaced(LabError):
    """An object was deleted to be created anew, and the creation failed: it is gone."""


class InvalidManifest(LabError):
    """The text is not a Kubernetes manifest: bad YAML, no kind, or an unknown API version."""


class StepMissing(LabError):
    """What an earlier step of the page leaves behind is not there: that step comes first."""


class InvalidInput(LabError):
    """A value that the learner wrote in a cell is none that the next step can use."""


class WaitFailed(LabError):
    """A wait that did not get what it waited for: carries what was seen last and why, if known."""

    def __init__(
        self, message: str, *, last: str = "", diagnostics: tuple[str, ...] = (), next_command: str = ""
    ) -> None:
        super().__init__(message, next_command=next_command)
        self.last, self.diagnostics = last, diagnostics


class WaitTimeout(WaitFailed):
    """The condition did not hold before the deadline."""


class WaitRejected(WaitFailed):
    """The wait met a terminal state (ImagePullBackOff, quota FailedCreate) and ended early."""
