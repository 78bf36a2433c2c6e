"""Fixtures for all tests: a fake cluster, and one live embedded cluster of the tests' own.

Tests never see the learner's home or clusters: everything that they start lives in a folder and
under a name of this test run, which removes both; what a killed run left, the next one sweeps away.
`COURSE_TEST_KEEP=1` keeps both for the next run; with `COURSE_TEST_KUBECONFIG=FILE` the live tests
run on that cluster instead.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import pytest

from helpers import restore, settings
from helpers.cluster import Cluster, Scope
from helpers.cluster.fake import FakeCluster
from helpers.errors import LabError
from helpers.labs.registry import lab_ids

REPOSITORY = Path(__file__).resolve().parent.parent
KEEP = os.environ.get("COURSE_TEST_KEEP") == "1"
FOREIGN = os.environ.get("COURSE_TEST_KUBECONFIG")
HOME_PREFIX = "course-test-"
ALIVE = pytest.StashKey[TextIO]()
# Kinds that show whether an operator is installed.
CLUSTER_WIDE = frozenset({"APIService", "CustomResourceDefinition", "Namespace"})
_CHOICES = ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_SCOPE", "KUBECONFIG")


def pytest_configure(config: pytest.Config) -> None:
    """Give this run a home and a cluster name; with xdist, each worker its own."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs in the background so, and everything that a test starts would ignore Ctrl+C too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    if worker is None:
        _sweep_homes_of_dead_runs()
    run = "kept" if KEEP else str(os.getpid())
    if worker is not None:
        run = f"{worker['testrunuid'][:6]}-{worker['workerid']}"
    home = Path(tempfile.gettempdir()) / f"{HOME_PREFIX}{run}"
    home.mkdir(exist_ok=True)
    if not KEEP:
        config.stash[ALIVE] = _alive(home)
    os.environ["COURSE_HOME"] = str(home)
    os.environ["COURSE_CLUSTER"] = f"test-{run}"
    for variable in _CHOICES:
        os.environ.pop(variable, None)
    # As in `course shell`: messages then name commands as they are written everywhere.
    os.environ["COURSE_SHELL"] = "1"
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Remove the cluster while the session still counts as running.

    Once a worker has said that it is done, xdist gives it ten seconds and then kills it.
    """
    if KEEP or not settings.cluster_dir(settings.cluster_name()).exists():
        return
    done = _course("down", "--delete", "--name", settings.cluster_name())
    if done.returncode:
        print(f"the tests' cluster was not removed:\n{done.stderr[-2000:]}", file=sys.stderr)


def pytest_unconfigure() -> None:
    """Leave nothing behind; the home of a cluster that would not go stays for the next run's sweep."""
    if not KEEP and not settings.cluster_dir(settings.cluster_name()).exists():
        shutil.rmtree(settings.home_dir(), ignore_errors=True)


def _alive(home: Path) -> TextIO:
    """A locked file in the home: the kernel lets go of it when this process ends, however it ends."""
    locked = (home / "run.new").open("w")
    fcntl.flock(locked, fcntl.LOCK_EX)
    (home / "run.new").rename(home / "run.lock")
    return locked


def _sweep_homes_of_dead_runs() -> None:
    """What a killed run could not remove: its clusters and its home."""
    for path in Path(tempfile.gettempdir()).glob(f"{HOME_PREFIX}*/run.lock"):
        try:
            with path.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _sweep(path.parent)
        except (BlockingIOError, FileNotFoundError):
            continue  # that run is under way, or another one sweeps here too


def _sweep(home: Path) -> None:
    down = ("down", "--delete", "--name")
    clusters = (folder.name for folder in (home / "clusters").glob("*/"))
    if all(_course(*down, name, COURSE_HOME=str(home)).returncode == 0 for name in clusters):
        shutil.rmtree(home, ignore_errors=True)


def _course(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helpers.cli", *arguments]
    environment = os.environ | variables
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )


@pytest.fixture(scope="module")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """The kubeconfig of the tests' live cluster, as each module finds it: without the course's namespaces and operators.

    What an earlier module left would hold the GPU and the quota that this one counts on, and serve kinds that it counts
    on not to be served. A module with the mark `solved` finds these labs solved by `course solve`; where it names all
    labs, on a copy of the cluster that tests/live/test_journey.py keeps, unless this version has kept none.
    """
    mark = request.node.get_closest_marker("solved")
    labs = mark.args if mark else ()
    if FOREIGN:
        if labs:
            _must("solve", *labs, COURSE_KUBECONFIG=FOREIGN)
        return Path(FOREIGN)
    path = settings.kubeconfig_path(settings.cluster_name())
    with (settings.home_dir() / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if list(labs) == lab_ids() and _all_labs_kept():
            _must("restore", *lab_ids(), "--replace", "--name", settings.cluster_name())
            return path
        if KEEP or not path.exists():
            _must("up", "--name", settings.cluster_name())
        there = Cluster.connect(kubeconfig=path, scope=Scope())
        _remove_namespaces(there)
        _remove_operators(there)
        if labs:
            _must("solve", *labs)
    return path


def _all_labs_kept() -> bool:
    try:
        return bool(restore.kept(lab_ids()))
    except restore.NotKept:
        return False


def _remove_namespaces(cluster: Cluster) -> None:
    """All at once, and none waits for the answers that a model server still owes to nobody."""
    names = [found.name for found in cluster.view().list("Namespace") if found.name.startswith("llm-")]
    for name in names:
        cluster.delete_namespace(name, wait_s=0)
    for name in names:
        for pod in cluster.view().pods(name):
            cluster.delete("Pod", pod.name, name, grace_s=1)
    cluster.wait_until(
        "the namespaces of the course are gone",
        lambda view: not any(view.find("Namespace", name) for name in names),
        timeout_s=240,
    )


def _remove_operators(cluster: Cluster) -> None:
    """What labs install for the whole cluster; after the namespaces, whose ScaledObjects only KEDA can end."""
    objects = _objects_of_operators()
    wide = [(item["kind"], item["metadata"]["name"]) for item in objects if item["kind"] in CLUSTER_WIDE]
    if not any(cluster.view().find(kind, name) for kind, name in wide):
        return
    for item in reversed(objects):
        with suppress(LabError):  # its namespace or its kind went a moment ago
            cluster.delete(item["kind"], item["metadata"]["name"], item["metadata"].get("namespace"))
    cluster.wait_until(
        "the operators that labs installed are gone",
        lambda view: not any(view.find(kind, name) for kind, name in wide),
        timeout_s=120,
    )


@cache
def _objects_of_operators() -> list[dict[str, Any]]:
    """What their overlays hold; kubectl builds it once for a run, and every module on a plain cluster asks."""
    from helpers.cluster.kubectl import kustomize
    from helpers.stack.bring_up import MANIFESTS
    from helpers.stack.operators import OPERATORS

    folders = ("rollouts", *(operator.folder for operator in OPERATORS))
    return [item for name in folders for item in kustomize(MANIFESTS / name / "overlays" / "embedded")]


def _must(*arguments: str, **variables: str) -> None:
    done = _course(*arguments, **variables)
    if done.returncode:
        pytest.fail(f"course {' '.join(arguments)}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")


@pytest.fixture(scope="module")
def cluster(kubeconfig: Path) -> Cluster:
    """The tests' live cluster."""
    return Cluster.connect(kubeconfig=kubeconfig, scope=Scope())


@pytest.fixture
def fake_cluster() -> FakeCluster:
    """A fresh cluster in memory."""
    return FakeCluster()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace in the live cluster, deleted afterwards."""
    name = f"llm-test-{uuid.uuid4().hex[:8]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.delete_namespace(name, wait_s=0)
