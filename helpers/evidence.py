"""Evidence: what an observation of the cluster leaves behind, so that a verdict can be checked again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """A reference to an object that a verdict rests on, as it was when it was observed."""

    kind: str
    name: str
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    observed_at: str | None = None
    observation: str | None = None
