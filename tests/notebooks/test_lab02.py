"""Lab 02's page: it opens without changing the cluster, and reads well without one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.settings import REPOSITORY

LAB, SOLUTION = (REPOSITORY / folder / "02_inference.py" for folder in ("labs", "solutions"))


def _app(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def test_the_notebooks_are_well_formed() -> None:
    command = [sys.executable, "-m", "marimo", "check", "--strict", str(LAB), str(SOLUTION)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_reads_to_its_end_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    outputs, definitions = _app(LAB).run()
    assert definitions["lab"].cluster is None
    assert definitions["titles"]
    texts = [getattr(output, "text", "") for output in outputs]
    assert any("No cluster yet" in text for text in texts)


@pytest.mark.live
def test_opening_the_page_changes_nothing_in_the_cluster(cluster: Any) -> None:
    def versions() -> dict[str, str]:
        view = cluster.view()
        kinds = ("Deployment", "Service", "PersistentVolumeClaim", "ConfigMap", "Pod", "Job")
        found = [item for kind in kinds for item in view.list(kind, all_namespaces=True)]
        return {str(item): item.uid for item in found}

    before = versions()
    _app(LAB).run()
    assert versions() == before
