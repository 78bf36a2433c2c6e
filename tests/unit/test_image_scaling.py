"""The images of lab 08's operators: what they are compiled from, what is left out, and what a cluster gets with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.cluster.profile import OFFICIAL_IMAGES
from helpers.embedded import binaries, trimmed
from helpers.embedded.binaries import (
    KEDA,
    KEDA_TRIGGERS,
    KEDA_VERSION,
    METRICS_SERVER,
    METRICS_SERVER_VERSION,
    PROMETHEUS,
    PROMETHEUS_OPERATOR,
    PROMETHEUS_OPERATOR_VERSION,
    PROMETHEUS_VERSION,
    SOURCES,
)
from helpers.embedded.images import image
from helpers.embedded.registry import OFFICIAL
from helpers.settings import REPOSITORY
from helpers.stack import operators

STACK = REPOSITORY / "manifests" / "stack"
PARTS = ("keda", "prometheus-operator", "monitoring", "metrics-server")
NEW = (
    *("keda", "keda-metrics-apiserver", "metrics-server"),
    *("prometheus", "prometheus-operator", "prometheus-config-reloader"),
)


def objects(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.load_all(path.read_text(), yaml.CSafeLoader) if item]


@pytest.mark.parametrize("name", NEW)
def test_elsewhere_the_manifests_run_the_official_images(name: str) -> None:
    text = "".join(path.read_text() for part in PARTS for path in (STACK / part / "base").glob("*.yaml"))
    assert re.search(rf'(image: |value: "){re.escape(OFFICIAL_IMAGES[name])}"?\}}?\n', text)
    assert OFFICIAL[name] == OFFICIAL_IMAGES[name]


@pytest.mark.parametrize("part", PARTS)
def test_every_profile_has_an_overlay(part: str) -> None:
    for overlay in ("embedded", "gpu", "mig", "time-slicing"):
        assert (STACK / part / "overlays" / overlay / "kustomization.yaml").is_file()


def test_images_that_are_no_container_s_field_are_named_by_the_embedded_overlays() -> None:
    sizes = "".join((STACK / part / "overlays/embedded/size.yaml").read_text() for part in PARTS)
    assert f"image: {image('prometheus').reference}\n" in sizes
    assert f'value: "{image("prometheus-config-reloader").reference}"' in sizes


def test_one_version_is_built_and_named() -> None:
    for source, version, module in (
        (KEDA, KEDA_VERSION, "github.com/kedacore/keda/v2"),
        (
            PROMETHEUS_OPERATOR,
            PROMETHEUS_OPERATOR_VERSION,
            "github.com/prometheus-operator/prometheus-operator",
        ),
        (METRICS_SERVER, METRICS_SERVER_VERSION, "sigs.k8s.io/metrics-server"),
    ):
        assert f"{module} v{version} " in (SOURCES / source.name / "go.mod").read_text()
        assert image(source.name).reference.endswith(f":{version}")
        assert OFFICIAL_IMAGES[source.name].endswith(version)


def test_what_the_three_share_is_compiled_once() -> None:
    required: dict[str, dict[str, str]] = {}
    for source in (KEDA, PROMETHEUS_OPERATOR, METRICS_SERVER):
        text = (SOURCES / source.name / "go.mod").read_text()
        for module, version in re.findall(r"^(?:require |\t)(\S+) (v\S+)", text, flags=re.MULTILINE):
            required.setdefault(module, {})[source.name] = version
    # The operator does not compile with later ones: their functions have moved.
    for module in (
        *("github.com/prometheus/prometheus", "github.com/prometheus/alertmanager"),
        "sigs.k8s.io/controller-runtime",
    ):
        required.pop(module, None)
    apart = {module: by for module, by in required.items() if len(set(by.values())) > 1}
    assert not apart, "in the folder of the older ones: go get MODULE@VERSION"


def kinds(part: str) -> dict[str, dict[str, Any]]:
    folder = STACK / part / "base" / "crds"
    listed = objects(folder / "kustomization.yaml")[0]["resources"]
    assert sorted(listed) == sorted(
        path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"
    )
    found = {}
    for name in listed:
        assert (folder / name).stat().st_size < 100_000
        (definition,) = objects(folder / name)
        found[definition["spec"]["names"]["kind"]] = definition["spec"]["versions"][0]["schema"]
    return found


def test_the_definitions_are_upstreams_without_their_descriptions() -> None:
    found = kinds("keda")
    assert set(found) == {
        *("ScaledObject", "ScaledJob", "TriggerAuthentication", "ClusterTriggerAuthentication"),
        *("CloudEventSource", "ClusterCloudEventSource"),
    }
    spec = found["ScaledObject"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert {"triggers", "fallback", "cooldownPeriod", "idleReplicaCount", "advanced"} <= spec.keys()
    found = kinds("prometheus-operator")
    assert set(found) == {"Prometheus", "ServiceMonitor", "PodMonitor", "Probe", "PrometheusRule"}
    assert "endpoints" in found["ServiceMonitor"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def test_keda_s_account_reads_no_secret_of_another_namespace() -> None:
    rbac = objects(STACK / "keda/base/rbac.yaml")
    for role in (item for item in rbac if item["kind"] == "ClusterRole"):
        for rule in role["rules"]:
            if "" in rule["apiGroups"] or "*" in rule["apiGroups"]:
                assert not {"secrets", "*"} & set(rule["resources"]), role["metadata"]["name"]
    (operator, _) = objects(STACK / "keda/base/operator.yaml")
    environment = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "KEDA_RESTRICT_SECRET_ACCESS", "value": "true"} in environment


def test_prometheus_may_ask_where_it_looks_for_monitors_and_nowhere_else() -> None:
    (custom,) = objects(STACK / "monitoring/base/prometheus.yaml")
    selectors = [
        custom["spec"][f"{kind}NamespaceSelector"]["matchExpressions"][0]["values"]
        for kind in ("serviceMonitor", "podMonitor", "rule")
    ]
    assert selectors == [list(operators.SCRAPED)] * 3
    roles = [item for item in objects(STACK / "monitoring/base/rbac.yaml") if item["kind"] == "Role"]
    assert [item["metadata"]["namespace"] for item in roles] == list(operators.SCRAPED)
    assert all(rule["verbs"] == ["get", "list", "watch"] for role in roles for rule in role["rules"])


def test_prometheus_s_service_leaves_the_grader_s_own_caller_out() -> None:
    """Lab 04's caller in llm-monitoring carries Prometheus's name, as a policy would know it."""
    (service,) = objects(STACK / "monitoring/base/service.yaml")
    assert service["spec"]["selector"] == {"operator.prometheus.io/name": operators.PROMETHEUS}


# What is left out


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A folder as Go's module cache has it, of a few files."""
    folder = tmp_path / "keda@v2"
    texts = {
        "go.mod": "module github.com/kedacore/keda/v2\n",
        "pkg/scalers/scaler.go": "package scalers\n",
        "pkg/scalers/kafka_scaler.go": "package scalers\n",
        "pkg/scalers/redis_scaler.go": "package scalers\n",
        "pkg/scalers/redis_scaler_test.go": "package scalers\n",
        "pkg/scalers/aws/aws_common.go": "package aws\n",
        "pkg/scaling/scalers_builder.go": (
            "\tswitch kind {\n"
            '\tcase "kafka":\n\t\treturn scalers.NewKafkaScaler(ctx)\n'
            '\tcase "redis":\n\t\treturn scalers.NewRedisScaler(ctx)\n'
            '\tcase "redis-cluster":\n\t\treturn scalers.NewRedisScaler(ctx, true)\n'
            "\tdefault:\n\t\treturn nil, errors.New(kind)\n\t}\n"
        ),
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o444)
    return folder


def test_a_trimmed_module_has_what_stays_and_ours_in_place_of_the_rest(
    upstream: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.write_text(f'#!/bin/sh\necho \'{{"Dir": "{upstream}"}}\'\n')
    go.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    assert KEDA.trim is not None
    pinned = trimmed.prepare(KEDA.trim, SOURCES / "keda", work, str(go), {})
    copy = work / "module"
    assert pinned.read_text().endswith(f"replace {KEDA.trim.module} => {copy}\n")
    assert (work / "go.sum").read_bytes() == (SOURCES / "keda/go.sum").read_bytes()
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*.go")}
    assert {"pkg/scalers/scaler.go", "pkg/scalers/redis_scaler.go", "pkg/scalers/aws/aws.go"} <= names
    assert not names & {
        *("pkg/scalers/kafka_scaler.go", "pkg/scalers/redis_scaler_test.go"),
        "pkg/scalers/aws/aws_common.go",
    }
    switch = (copy / KEDA.trim.switch).read_text()
    assert re.findall(r'case "(.*)"', switch) == ["redis"], "a longer name is not the shorter one"
    assert "default:" in switch


def test_a_trimmed_source_has_another_key_when_what_is_left_out_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = KEDA.key()
    other = binaries.Source(KEDA.name, KEDA.title, KEDA.packages, link=KEDA.link)
    assert other.key() != before
    monkeypatch.setattr(trimmed, "inputs", lambda folder: [])
    assert KEDA.key() != before
    assert {"redis-streams", "prometheus", "cpu"} <= set(KEDA_TRIGGERS)


def test_prometheus_finds_targets_by_kubernetes_and_nothing_else() -> None:
    """The operator's configuration has `kubernetes_sd_configs`, which Debian's package was built without."""
    assert PROMETHEUS.flags == ("-tags", "remove_all_sd,enable_kubernetes_sd")
    (custom,) = objects(STACK / "monitoring/base/prometheus.yaml")
    assert custom["spec"]["version"] == f"v{PROMETHEUS_VERSION}"
    assert image("prometheus").reference.endswith(f":{PROMETHEUS_VERSION}")
    # Prometheus 3.14 is the module's 0.314.
    major, minor, patch = PROMETHEUS_VERSION.split(".")
    module = f"github.com/prometheus/prometheus v0.{major}{minor:0>2}.{patch} "
    assert module in (SOURCES / "prometheus/go.mod").read_text()
