"""Scopes: one learner's namespaces behind the course's names."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster import COURSE_NAMESPACES, Scope

ADA = Scope("ada")


def test_without_a_suffix_nothing_changes() -> None:
    manifest = {"kind": "Pod", "metadata": {"name": "a", "namespace": "llm-system"}}
    assert Scope().namespace("llm-system") == "llm-system"
    assert Scope().manifest(manifest) == manifest


@pytest.mark.parametrize("name", COURSE_NAMESPACES)
def test_course_namespaces_are_mapped_and_back(name: str) -> None:
    assert ADA.namespace(name) == f"{name}-ada"
    assert ADA.course_name(f"{name}-ada") == name


@pytest.mark.parametrize("name", ["kube-system", "default", "monitoring"])
def test_other_namespaces_pass(name: str) -> None:
    assert ADA.namespace(name) == name


def test_a_mapped_name_is_not_mapped_again() -> None:
    assert ADA.namespace(ADA.namespace("llm-apps")) == "llm-apps-ada"


def test_a_manifest_is_mapped_in_every_place_that_names_a_namespace() -> None:
    policy: dict[str, Any] = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "llm-system", "namespace": "llm-system"},
        "spec": {
            "ingress": [
                {
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm-apps"}}}
                    ]
                },
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchExpressions": [
                                    {
                                        "key": "kubernetes.io/metadata.name",
                                        "operator": "In",
                                        "values": ["llm-apps", "kube-system"],
                                    }
                                ]
                            }
                        }
                    ]
                },
            ]
        },
    }
    mapped = ADA.manifest(policy)
    first, second = (rule["from"][0]["namespaceSelector"] for rule in mapped["spec"]["ingress"])
    assert mapped["metadata"] == {"name": "llm-system", "namespace": "llm-system-ada"}
    assert first["matchLabels"]["kubernetes.io/metadata.name"] == "llm-apps-ada"
    assert second["matchExpressions"][0]["values"] == ["llm-apps-ada", "kube-system"]
    assert policy["metadata"]["namespace"] == "llm-system"


def test_namespaces_and_subjects_are_mapped() -> None:
    labels = {"kubernetes.io/metadata.name": "llm-apps", "kubedojo.dev/role": "llm-apps"}
    namespace = ADA.manifest({"kind": "Namespace", "metadata": {"name": "llm-apps", "labels": labels}})
    binding = ADA.manifest(
        {
            "kind": "RoleBinding",
            "metadata": {"name": "b", "namespace": "llm-system"},
            "subjects": [{"kind": "ServiceAccount", "name": "llm-app", "namespace": "llm-apps"}],
        }
    )
    assert namespace["metadata"]["name"] == "llm-apps-ada"
    assert namespace["metadata"]["labels"]["kubedojo.dev/role"] == "llm-apps"
    assert binding["subjects"][0] == {
        "kind": "ServiceAccount",
        "name": "llm-app",
        "namespace": "llm-apps-ada",
    }


@pytest.mark.parametrize(
    ("written", "mapped"),
    [
        (
            "http://vllm.llm-system.svc.cluster.local:8000",
            "http://vllm.llm-system-ada.svc.cluster.local:8000",
        ),
        ("qdrant.llm-system:6333", "qdrant.llm-system-ada:6333"),
        (
            "curl vllm.llm-system/health && curl x.llm-apps",
            "curl vllm.llm-system-ada/health && curl x.llm-apps-ada",
        ),
        ("vllm.llm-system-lin.svc", "vllm.llm-system-lin.svc"),
        ("vllm.llm-system-ada.svc", "vllm.llm-system-ada.svc"),
        ("dns.kube-system.svc", "dns.kube-system.svc"),
        ("llm-system", "llm-system"),
    ],
)
def test_services_in_commands_and_configuration_are_those_of_the_learner(written: str, mapped: str) -> None:
    container = {"command": ["sh", "-c", written], "env": [{"name": "URL", "value": written}]}
    pod = {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}
    config = {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"url": written}}
    (found,) = ADA.manifest(pod)["spec"]["containers"]
    assert (found["command"][2], found["env"][0]["value"]) == (mapped, mapped)
    assert ADA.manifest(config)["data"]["url"] == mapped
    assert Scope().manifest(pod) == pod
