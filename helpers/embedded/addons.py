"""What a cluster carries besides kubeadm's own parts: DNS, storage, GPU metrics, the profile that labs read."""

from __future__ import annotations

import json
import re
import string
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from helpers import kubeyaml
from helpers.embedded import cache, gpu, observe
from helpers.embedded.images import IMAGES
from helpers.embedded.images.system import PAUSE
from helpers.embedded.registry import Source, reference
from helpers.embedded.sandbox import SCRIPTS, Sandbox
from helpers.embedded.steps import StepFailed, Steps

APPLIED = "etc/course/addons"
KUBEADM = "/etc/course/kubeadm.yaml"
_OUTSIDE = re.compile(r"^ +forward [^{]*\{[^}]*\}\n|^ +loop\n", re.MULTILINE)


def add_when_possible(sandbox: Sandbox, pid: int, source: Source, failed: threading.Event) -> None:
    """Add everything as soon as the API server takes it; `failed` ends the wait, since kubeadm gave up."""
    manifests = _manifests(sandbox, pid, source)
    while not failed.is_set():
        if observe.takes_objects(sandbox, pid):
            _apply(sandbox, pid, manifests)
            sandbox.data(APPLIED).write_text(_applied(sandbox, source))
            return
        time.sleep(0.05)


def renew(sandbox: Sandbox, pid: int, source: Source, steps: Steps) -> None:
    """Bring the add-ons of a kept cluster to what this checkout has."""
    applied = sandbox.data(APPLIED)
    if applied.exists() and applied.read_text() == _applied(sandbox, source):
        return
    with steps.step("Renewing DNS, storage, GPU metrics and the profile"):
        _apply(sandbox, pid, _manifests(sandbox, pid, source))
        applied.write_text(_applied(sandbox, source))


def publish_profile(sandbox: Sandbox, pid: int, source: Source) -> None:
    """Tell the labs what the cluster is now; its other add-ons stay what they are, and are renewed by `up`."""
    _apply(sandbox, pid, _profile_manifest(sandbox, source))
    applied = sandbox.data(APPLIED)
    parts = applied.read_text().partition("\n")[0] if applied.exists() else "none"
    applied.write_text(_applied(sandbox, source, parts=parts))


def profile(source: Source, shape: str) -> dict[str, Any]:
    """What labs may need to know of this cluster; helpers/cluster/profile.py reads it."""
    return {
        "name": "embedded",
        "gpu": "simulated",
        "gpu_resource": "nvidia.com/mig-1g.10gb" if shape == gpu.Shape.MIG else "nvidia.com/gpu",
        "gpu_shape": shape,
        "storage_class": observe.STORAGE_CLASS,
        "images": {**{spec.name: reference(spec, source) for spec in IMAGES}, "pause": PAUSE},
        "model": "/models/smollm2-135m-instruct",
        "served_model_name": "smollm2-135m-instruct",
        "overlay": "embedded",
        "allows_faults": True,
        "labels": {
            "gpu": "no GPU: the node advertises simulated devices",
            "images": "from their projects' registries"
            if source is Source.OFFICIAL
            else "made on this machine",
            **{spec.name: spec.about for spec in IMAGES if reference(spec, source) == spec.reference},
        },
    }


def _manifests(sandbox: Sandbox, pid: int, source: Source) -> str:
    storage = (SCRIPTS / "storage.yaml").read_text()
    return "\n---\n".join([_dns(sandbox, pid), storage, _gpu_metrics(), _profile_manifest(sandbox, source)])


def _gpu_metrics() -> str:
    return string.Template((SCRIPTS / "gpu-metrics.yaml").read_text()).substitute(PAUSE=PAUSE)


def _applied(sandbox: Sandbox, source: Source, *, parts: str = "") -> str:
    """What the add-ons are made from, as two keys: `parts` or this checkout's, and the profile's.

    DNS is made from this file and kubeadm's own, the rest from its text.
    """
    made_from = (Path(__file__), SCRIPTS / "storage.yaml", _gpu_metrics(), sandbox.data(KUBEADM))
    return f"{parts or cache.key_of(made_from)}\n{cache.key_of([_profile_manifest(sandbox, source)])}\n"


def _dns(sandbox: Sandbox, pid: int) -> str:
    """kubeadm's own CoreDNS add-on, for one node: one replica, soon ready, and no outside to forward to."""
    phase = ["kubeadm", "init", "phase", "addon", "coredns", "--config", KUBEADM, "--print-manifest"]
    printed = subprocess.run(sandbox.run(phase, pid=pid), capture_output=True, text=True)
    if printed.returncode != 0:
        raise StepFailed(
            f"kubeadm does not print its DNS add-on\n{printed.stderr}", next_command="course doctor"
        )
    documents = kubeyaml.load_all(printed.stdout)
    for document in documents:
        if document["kind"] == "Deployment":
            document["spec"]["replicas"] = 1
            (container,) = document["spec"]["template"]["spec"]["containers"]
            container["readinessProbe"] |= {"periodSeconds": 1, "initialDelaySeconds": 0}
            container["livenessProbe"] |= {"initialDelaySeconds": 5}
        if document["kind"] == "ConfigMap":
            document["data"]["Corefile"] = _OUTSIDE.sub("", document["data"]["Corefile"])
    return "---\n".join(map(kubeyaml.dump, documents))


def _profile_manifest(sandbox: Sandbox, source: Source) -> str:
    found = profile(source, gpu.read_shape(sandbox.data("etc/course")))
    return kubeyaml.dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "course-profile", "namespace": "kube-public"},
            "data": {"profile": json.dumps(found, indent=1)},
        }
    )


def _apply(sandbox: Sandbox, pid: int, manifests: str) -> None:
    kubeconfig = f"--kubeconfig=/{observe.ADMINISTRATOR}"
    command = ["kubectl", kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-"]
    done = subprocess.run(sandbox.run(command, pid=pid), input=manifests, capture_output=True, text=True)
    if done.returncode != 0:
        raise StepFailed(f"kubectl apply failed\n{done.stderr}", next_command="course up")
