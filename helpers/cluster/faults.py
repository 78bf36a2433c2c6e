"""What the API server answered, mapped to the course's errors in one place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers.errors import Forbidden, InvalidManifest, LabError, ObjectMissing, Refused, ServerFault

_TYPED_PATCH = re.compile(r"^failed to create typed patch object(?: \([^)]*\))?: (?:errors:\s*)?")
# How Go prints the value that it got: &value.valueUnstructured{Value:3500}, or &{3500}.
_GO_VALUE = re.compile(r"&(?:value\.valueUnstructured)?\{(?:Value:)?([^{}\n]*)\}")


@dataclass(frozen=True)
class Response:
    """An HTTP answer, whole: the body is read before this exists."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_status(self) -> bool:
        """Whether the API server itself speaks, in a Status."""
        return _status(self) is not None

    def json(self, doing: str) -> dict[str, Any]:
        """The body as a JSON object; ServerFault when it is something else."""
        try:
            tree = json.loads(self.body)
        except ValueError as error:
            raise ServerFault(
                f"the answer to {doing} is not JSON: {self.excerpt()}", next_command="course doctor"
            ) from error
        if not isinstance(tree, dict):
            raise ServerFault(f"the answer to {doing} is not a Kubernetes object: {self.excerpt()}")
        return tree

    def excerpt(self, most: int = 120) -> str:
        """The body's first characters on one line, for messages."""
        text = " ".join(self.body[: most * 4].decode("utf-8", "replace").split())
        return repr(text[:most] + ("…" if len(text) > most else ""))


@dataclass(frozen=True)
class Asked:
    """What a request was about, so that an error can speak of it."""

    doing: str
    kind: str = ""
    name: str = ""
    namespace: str | None = None


def error_of(response: Response, asked: Asked) -> LabError:
    """The error that an unsuccessful answer stands for."""
    status = _status(response)
    said = str((status or {}).get("message") or response.excerpt())
    code = response.status
    if code == 401:
        return Forbidden(
            f"the cluster does not accept these credentials ({asked.doing}): {said}",
            next_command="course doctor",
        )
    if code >= 500 and _is_schema_error(said):
        return InvalidManifest(_in_words(said))
    if code == 404 and status is None and response.body.startswith(b"404 page not found"):
        return _not_served(asked)
    if code >= 500 or code == 429 or status is None:
        return ServerFault(
            f"the API server failed on {asked.doing} ({code}): {said}", next_command="course doctor"
        )
    if code == 404:
        return _missing(status, asked, said)
    if code == 403 and not is_admission(said):
        return Forbidden(f"not allowed: {said}", next_command="kubectl auth whoami")
    if code == 400 and (
        "strict decoding" in said or "unable to decode" in said or "cannot be handled" in said
    ):
        return InvalidManifest(said)
    return Refused(said, code=code)


def is_transient(response: Response) -> bool:
    """Whether asking again may be answered otherwise: 429, and 5xx that are not about the object."""
    failed = response.status == 429 or response.status >= 500
    return failed and not _is_schema_error(response.body.decode("utf-8", "replace"))


def is_settling(response: Response) -> bool:
    """Whether the refusal comes from a namespace or quota that its controller has yet to complete."""
    if response.status != 403:
        return False
    said = str((_status(response) or {}).get("message"))
    return 'serviceaccount "default" not found' in said or "status unknown for quota" in said


def _is_schema_error(said: str) -> bool:
    # Server-side apply reports a field that is not in the schema as an internal error (500):
    # https://github.com/kubernetes/kubernetes/issues/107952
    return "failed to create typed patch object" in said or "field not declared in schema" in said


def _in_words(said: str) -> str:
    """Server-side apply's complaint about a field, without the API server's own types."""
    if not _TYPED_PATCH.search(said):
        return said
    problems = _GO_VALUE.sub(r"\1", _TYPED_PATCH.sub("", said)).split("\n")
    return "; ".join(_problem(line.strip()) for line in problems if line.strip())


def _problem(line: str) -> str:
    if line.endswith(": field not declared in schema"):
        return line.replace("field not declared in schema", "there is no such field here")
    return f"{line}: put it between quotes" if ": expected string, got " in line else line


def is_admission(said: str) -> bool:
    """Whether a 403 comes from admission (about the object), not from authorisation (about the user)."""
    return not ('User "' in said and " cannot " in said)


def _status(response: Response) -> dict[str, Any] | None:
    try:
        tree = json.loads(response.body)
    except ValueError:
        return None
    return tree if isinstance(tree, dict) and tree.get("kind") == "Status" else None


def _missing(status: dict[str, Any], asked: Asked, said: str) -> LabError:
    details = status.get("details") or {}
    if details.get("kind") == "namespaces" and details.get("name"):
        return ObjectMissing("Namespace", details["name"])
    if not details.get("name") and "could not find the requested resource" in said:
        return _not_served(asked)
    kind, name = asked.kind or details.get("kind", "object"), asked.name or details.get("name", "")
    return ObjectMissing(kind, name, asked.namespace)


def _not_served(asked: Asked) -> LabError:
    what = asked.kind or asked.doing
    return InvalidManifest(f"this cluster does not serve {what}", next_command="kubectl api-resources")
