"""`course use`: a learner with a cluster of their own, from a home where nothing ever ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.cluster import Cluster

pytestmark = pytest.mark.live
REPOSITORY = Path(__file__).resolve().parents[2]
Course = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def elsewhere(kubeconfig: Path, tmp_path: Path) -> Path:
    """The tests' cluster as somebody else's: another file, another name of the context."""
    tree = yaml.safe_load(kubeconfig.read_text())
    current = next(item for item in tree["contexts"] if item["name"] == tree["current-context"])
    current["name"] = tree["current-context"] = "elsewhere"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """The command line with a home of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COURSE_")}
    environment |= {"COURSE_HOME": str(tmp_path / "home")}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "helpers.cli", *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return call


def test_a_chosen_cluster_is_graded_and_left_again(course: Course, elsewhere: Path, cluster: Cluster) -> None:
    nothing = course("grade", "01", "--json")
    assert nothing.returncode == 2 and "Traceback" not in nothing.stderr

    chosen = course("use", "--context", "elsewhere", "--kubeconfig", str(elsewhere))
    assert chosen.returncode == 0 and cluster.identity().server_version in chosen.stdout
    assert course("kubeconfig").stdout.strip() == str(elsewhere)

    graded = course("grade", "01", "--json")
    report = json.loads(graded.stdout)
    assert graded.returncode in (0, 1), graded.stderr
    assert report["cluster"]["uid"] == cluster.identity().uid
    assert report["cluster"]["gpu"] == "simulated"

    assert course("use", "embedded").returncode == 0
    left = course("grade", "01", "--json")
    assert left.returncode == 2 and "course up" in left.stdout + left.stderr


def test_a_context_that_is_not_there_changes_nothing(course: Course, elsewhere: Path) -> None:
    course("use", "--context", "elsewhere", "--kubeconfig", str(elsewhere))
    wrong = course("use", "--context", "nowhere", "--kubeconfig", str(elsewhere))
    assert wrong.returncode != 0 and "elsewhere" in wrong.stdout + wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert course("kubeconfig").stdout.strip() == str(elsewhere)


def test_the_doctor_speaks_of_the_chosen_cluster(course: Course, elsewhere: Path) -> None:
    course("use", "--context", "elsewhere", "--kubeconfig", str(elsewhere))
    told = course("doctor", "--quick")
    assert "Kubernetes v1." in told.stdout
    assert "nvidia.com/gpu (simulated)" in told.stdout
    assert "asking https://" in told.stderr
