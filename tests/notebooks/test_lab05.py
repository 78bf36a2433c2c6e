"""Lab 05's page: it opens without changing the cluster, and reads well without one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.settings import REPOSITORY

NAME = "05_chaos.py"
LAB, SOLUTION = (REPOSITORY / folder / NAME for folder in ("labs", "solutions"))


def app_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


@pytest.mark.parametrize("path", [LAB, SOLUTION], ids=["lab", "solution"])
def test_the_notebook_is_well_formed(path: Path) -> None:
    command = [sys.executable, "-m", "marimo", "check", "--strict", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_reads_to_its_end_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    outputs, definitions = app_of(LAB).run()
    assert definitions["lab"].cluster is None
    assert definitions["titles"]
    assert any("No cluster yet" in getattr(output, "text", "") for output in outputs)


def test_the_solution_is_the_same_page(tmp_path: Path) -> None:
    """Headings of the lab appear in the solution, in the same order."""

    def headings(path: Path) -> list[str]:
        return [line.strip() for line in path.read_text().splitlines() if line.strip().startswith("## ")]

    assert headings(SOLUTION) == headings(LAB)


@pytest.mark.live
def test_opening_the_page_changes_nothing_in_the_cluster(cluster: Any) -> None:
    def versions() -> dict[str, str]:
        view = cluster.view()
        kinds = ("NetworkPolicy", "Service", "Namespace", "ConfigMap", "Pod")
        found = [item for kind in kinds for item in view.list(kind, all_namespaces=True)]
        return {str(item): item.uid for item in found}

    before = versions()
    app_of(LAB).run()
    assert versions() == before
