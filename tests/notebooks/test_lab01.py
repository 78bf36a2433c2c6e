"""Lab 01's page: it changes nothing unasked, reads well without a cluster, and its solution passes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from helpers.checks import load_lab
from helpers.cluster import Cluster
from helpers.grading import Status, grade
from helpers.grading.lifecycle import reset
from helpers.settings import REPOSITORY

LAB, SOLUTION = (REPOSITORY / folder / "01_substrate.py" for folder in ("labs", "solutions"))
YAML_CELL = re.compile(r'    (\w+_yaml) = """\n(.*?)\n    """', re.S)


def _app(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def _cells(path: Path) -> list[str]:
    return re.split(r"\n\n\n(?=@app\.cell)", path.read_text())


@pytest.mark.parametrize("path", [LAB, SOLUTION], ids=["lab", "solution"])
def test_the_notebook_is_well_formed(path: Path) -> None:
    command = [sys.executable, "-m", "marimo", "check", "--strict", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_solution_is_the_same_page_with_other_answers() -> None:
    """Every cell of the lab is in the solution, but for the title, the exercises and the panels around them."""
    solved = set(_cells(SOLUTION))
    missing = [cell for cell in _cells(LAB)[2:] if cell not in solved]
    assert [cell for cell in missing if "_yaml = " not in cell] == []


def test_the_texts_for_kubectl_are_those_of_the_page() -> None:
    """Learners who prefer a terminal start from the same words."""
    folder = REPOSITORY / "manifests" / "substrate"
    files = {file.stem.replace("-", "_"): file.read_text() for file in folder.glob("*.yaml")}
    cells = dict(YAML_CELL.findall(LAB.read_text()))
    assert len(files) == len(cells)
    for variable, text in cells.items():
        written = files[variable.removesuffix("_yaml")]
        lines = [line for line in written.splitlines() if not line.startswith("#")]
        assert lines == textwrap.dedent(text).splitlines()


def test_the_page_reads_to_its_end_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    outputs, definitions = _app(LAB).run()
    assert definitions["lab"].cluster is None
    texts = [getattr(output, "text", "") for output in outputs]
    assert any("No cluster yet" in text and "course up" in text for text in texts)


def _everything(cluster: Cluster) -> dict[str, str | None]:
    """Every object with its resourceVersion, but for what the cluster itself keeps writing."""
    view = cluster.view()
    kinds = [
        "Namespace",
        "Node",
        "ConfigMap",
        "Secret",
        "ServiceAccount",
        "ResourceQuota",
        "LimitRange",
        "Pod",
    ]
    kinds += [
        "Service",
        "PersistentVolumeClaim",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "Job",
    ]
    kinds += ["NetworkPolicy", "StorageClass", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
    found = [item for kind in kinds for item in view.list(kind, all_namespaces=True)]
    # A kubelet reports its node's status all the time: there the specification and the labels are compared.
    return {
        str(item): str((item.path("spec"), item.labels)) if item.kind == "Node" else item.resource_version
        for item in found
    }


@pytest.mark.live
@pytest.mark.parametrize("path", [LAB, SOLUTION], ids=["lab", "solution"])
def test_opening_the_page_changes_nothing_in_the_cluster(cluster: Cluster, path: Path) -> None:
    before = _everything(cluster)
    _app(path).run()
    assert _everything(cluster) == before


@pytest.mark.live
@pytest.mark.embedded
def test_the_solution_turns_the_lab_all_pass_and_a_second_run_is_harmless(cluster: Cluster) -> None:
    reset(load_lab("01"), cluster, lambda text: None)
    for _ in range(2):
        _app(SOLUTION).run(defs={"pressed": True})
        verdicts = {
            result.check: (result.status, result.observed) for result in grade(["01"], cluster).verdicts
        }
        assert {name: seen for name, seen in verdicts.items() if seen[0] is not Status.PASS} == {}
    reset(load_lab("01"), cluster, lambda text: None)
    assert reset(load_lab("01"), cluster, lambda text: None) == []
