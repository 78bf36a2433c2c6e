"""Scope: which real namespaces stand behind the course's namespace names.

On a cluster of one's own they are the same. In a shared classroom each learner has a suffix, and
labs, checks and manifests keep speaking of `llm-system` while the cluster holds `llm-system-ada`.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

# Every namespace that starts so is the course's; these are the ones that labs speak of.
COURSE_PREFIX = "llm-"
COURSE_NAMESPACES = (
    "llm-system",
    "llm-apps",
    "llm-gateway",
    "llm-observability",
    "llm-batch",
    "llm-workshop",
    "llm-outside",
    "llm-monitoring",
    "llm-impostor",
    "llm-probes",
)
NAME_LABEL = "kubernetes.io/metadata.name"
# `vllm.llm-system`, `vllm.llm-system.svc.cluster.local:8000`: a Service's name in a namespace of the course.
_HOST = re.compile(rf"(?<=[a-z0-9]\.)({'|'.join(COURSE_NAMESPACES)})(?![a-z0-9-])")
# `-n llm-system`, `namespace llm-apps`: where a command line names one.
_ARGUMENT = re.compile(rf"(?<=[ -])(n|namespaces?)([ =])({'|'.join(COURSE_NAMESPACES)})(?![a-z0-9-])")


def is_course_namespace(name: str) -> bool:
    """Whether the course owns the namespace, so that a scope maps it."""
    return name.startswith(COURSE_PREFIX)


@dataclass(frozen=True)
class Scope:
    """Maps the course's namespaces to those of one learner; an empty suffix changes nothing."""

    suffix: str = ""

    def namespace(self, name: str) -> str:
        """The real namespace for a course name; other names, and real ones, pass unchanged."""
        if not self.suffix or not is_course_namespace(name) or name.endswith(f"-{self.suffix}"):
            return name
        return f"{name}-{self.suffix}"

    def course_name(self, real: str) -> str:
        """The name that the course uses for a real namespace."""
        if self.suffix and is_course_namespace(real):
            return real.removesuffix(f"-{self.suffix}")
        return real

    def command(self, line: str) -> str:
        """A command line in which every namespace of the course is the real one, also in a Service's name."""
        if not self.suffix:
            return line
        return str(self._hosts(_ARGUMENT.sub(rf"\1\2\3-{self.suffix}", line)))

    def manifest(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """A copy of the manifest in which every reference to a course namespace is mapped."""
        mapped = deepcopy(manifest)
        if not self.suffix:
            return mapped
        metadata = mapped.get("metadata") or {}
        if mapped.get("kind") == "Namespace":
            self._rename(metadata, "name")
            self._rename(metadata.get("labels") or {}, NAME_LABEL)
        self._rename(metadata, "namespace")
        subjects = mapped.get("subjects")
        for subject in subjects if isinstance(subjects, list) else ():
            if isinstance(subject, dict):
                self._rename(subject, "namespace")
        self._selectors(mapped.get("spec"))
        for part in ("spec", "data"):
            if part in mapped:
                mapped[part] = self._hosts(mapped[part])
        return mapped

    def _rename(self, holder: dict[str, Any], key: str) -> None:
        if isinstance(holder.get(key), str):
            holder[key] = self.namespace(holder[key])

    def _hosts(self, node: Any) -> Any:
        """Services' names wherever text speaks of them: commands, arguments, variables, configuration."""
        if isinstance(node, dict):
            return {key: self._hosts(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self._hosts(item) for item in node]
        return _HOST.sub(rf"\1-{self.suffix}", node) if isinstance(node, str) else node

    def _selectors(self, node: Any) -> None:
        """Namespace selectors, wherever they stand: in policies, in affinity terms, in webhooks."""
        if isinstance(node, list):
            for item in node:
                self._selectors(item)
        elif isinstance(node, dict):
            if isinstance(node.get("matchLabels"), dict):
                self._rename(node["matchLabels"], NAME_LABEL)
            if node.get("key") == NAME_LABEL and isinstance(node.get("values"), list):
                node["values"] = [self.namespace(value) for value in node["values"]]
            for item in node.values():
                self._selectors(item)
