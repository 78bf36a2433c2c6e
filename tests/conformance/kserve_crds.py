"""KServe's kinds as CustomResourceDefinitions, made from the models of its published SDK.

    pip download --no-deps -d /tmp/kserve kserve==0.21.0
    python tests/conformance/kserve_crds.py /tmp/kserve/kserve-0.21.0-py3-none-any.whl

writes the two files in manifests/stack/kserve-api/base/crds whose names are in DEFINITIONS. The SDK (Apache-2.0) is
read as text and not installed: each of its models lists its fields with their types, so a misspelled field is refused
as KServe refuses it. What the SDK does not know (which fields are required, defaults, patterns, validations) is not
in them. Kubernetes' own types (V1Container, ...) stay open: the API server reads those in the pod.
`LLMInferenceService` has no specification in the SDK: llm-inference-service.yaml is written by hand.
"""

from __future__ import annotations

import ast
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SDK = "0.21.0"
FOLDER = Path(__file__).parents[2] / "manifests" / "stack" / "kserve-api" / "base" / "crds"
GROUP = "serving.kserve.io"
HEAD = f"# KServe's API, made by tests/conformance/kserve_crds.py from the models of its Python SDK {SDK} (Apache-2.0).\n"
LABEL = (
    f"KServe's API (fields from its SDK {SDK}), reconciled by the course's own controller; this is not KServe"
)
OPEN: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ANYTHING: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
SCALARS = {"str": "string", "datetime": "string", "int": "integer", "float": "number", "bool": "boolean"}
# A resource quantity is written as a text or as a number.
QUANTITY: dict[str, Any] = {"x-kubernetes-int-or-string": True}
DEEPEST = 8

Models = dict[str, Mapping[str, tuple[str, str]]]
"""By class: each field's name in JSON, and its type as the SDK writes it."""


def models_of(wheel: Path) -> Models:
    """The SDK's models, read from its wheel."""
    found: Models = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"kserve/models/\w+\.py", name):
                found |= _classes(archive.read(name).decode())
    return found


def _classes(text: str) -> Models:
    found: Models = {}
    for item in ast.parse(text).body:
        if isinstance(item, ast.ClassDef):
            tables = {
                target.id: ast.literal_eval(node.value)
                for node in item.body
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name) and target.id in ("openapi_types", "attribute_map")
            }
            if len(tables) == 2:
                names, types = tables["attribute_map"], tables["openapi_types"]
                found[item.name] = {names[key]: (key, types[key]) for key in types}
    return found


def schema(models: Models, type_: str, depth: int = 0) -> dict[str, Any]:
    """The OpenAPI schema of one of the SDK's types."""
    if type_ in SCALARS:
        return {"type": SCALARS[type_]}
    if type_ == "object":
        return dict(ANYTHING)
    if type_ in ("ResourceQuantity", "IntstrIntOrString"):
        return dict(QUANTITY)
    if match := re.fullmatch(r"list\[(.*)\]", type_, re.IGNORECASE):
        return {"type": "array", "items": schema(models, match[1], depth)}
    if match := re.fullmatch(r"dict\(str, (.*)\)", type_, re.IGNORECASE):
        return {"type": "object", "additionalProperties": schema(models, match[1], depth)}
    if type_ not in models or depth >= DEEPEST:
        return dict(OPEN)
    fields = {name: schema(models, kind, depth + 1) for name, (_, kind) in models[type_].items()}
    return {"type": "object", "properties": fields} if fields else dict(OPEN)


def definition(
    kind: str, plural: str, version: str, short: str, spec: dict[str, Any], *, has_status: bool
) -> dict[str, Any]:
    """A CustomResourceDefinition of KServe's group."""
    columns = [
        {"name": "URL", "type": "string", "jsonPath": ".status.url"},
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": ".status.conditions[?(@.type=='Ready')].status",
        },
        {
            "name": "Reason",
            "type": "string",
            "jsonPath": ".status.conditions[?(@.type=='Ready')].reason",
        },
    ]
    if not has_status:
        columns = [
            {"name": "Disabled", "type": "boolean", "jsonPath": ".spec.disabled"},
            {"name": "Formats", "type": "string", "jsonPath": ".spec.supportedModelFormats[*].name"},
        ]
    columns.append({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "annotations": {"kubedojo.dev/about": LABEL}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {
                        "openAPIV3Schema": {
                            "description": LABEL,
                            "type": "object",
                            "required": ["spec"],
                            "properties": {"spec": spec, "status": dict(OPEN)},
                        }
                    },
                }
            ],
        },
    }


def made(models: Models) -> dict[str, dict[str, Any]]:
    """Both definitions, by the name of their file."""
    service = schema(models, "V1beta1InferenceServiceSpec")
    runtime = schema(models, "V1alpha1ServingRuntimeSpec")
    return {
        "inference-service.yaml": definition(
            "InferenceService", "inferenceservices", "v1beta1", "isvc", service, has_status=True
        ),
        "serving-runtime.yaml": definition(
            "ServingRuntime", "servingruntimes", "v1alpha1", "srt", runtime, has_status=False
        ),
    }


class _Flow(yaml.SafeDumper):
    """Small mappings on one line: a file that can be read."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        small = len(mapping) == 1 and all(
            isinstance(value, (str, bool)) and len(str(value)) < 40 for value in mapping.values()
        )
        return super().represent_mapping(tag, mapping, flow_style=small or mapping == OPEN or flow_style)


def text(found: dict[str, Any]) -> str:
    """One definition as its file has it."""
    return HEAD + yaml.dump(found, Dumper=_Flow, sort_keys=False, width=120, default_flow_style=False)


def main(wheel: Path) -> None:
    if not wheel.name.startswith(f"kserve-{SDK}-"):
        sys.exit(f"{wheel.name} is not the SDK {SDK}: change SDK and the labels with it")
    for name, found in made(models_of(wheel)).items():
        (FOLDER / name).write_text(text(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
