"""What later labs need, fetched before anybody asks: which things, in whose way, and what a fault says."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import cli, settings
from helpers.embedded import ahead, behind, cache, entry, launch, registry, turns
from helpers.embedded.ahead import Thing
from helpers.embedded.helm import HELM
from helpers.embedded.images import build
from helpers.embedded.steps import DiskFull, NoNetwork, StepFailed, Steps, run
from helpers.labs.registry import lab_ids, load_lab


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_CLUSTER", "nothing")
    return tmp_path


def test_everything_that_a_lab_declares_is_fetched_and_helm() -> None:
    declared = {name for number in lab_ids() for name in load_lab(number).images}
    assert declared and set(ahead.WORKLOADS) == declared
    assert [thing.title for thing in ahead.things("nothing", None)][-1] == HELM.title


def test_the_help_lists_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    assert "prefetch" in capsys.readouterr().out


def offline(steps: Steps) -> None:
    run(["sh", "-c", "echo 'dial tcp: lookup proxy.golang.org: no such host' >&2; exit 1"])


def offline_image(steps: Steps) -> None:
    said = "WARNING: NewConnectionError: Temporary failure in name resolution"
    build.run(["sh", "-c", f"echo '{said}' >&2; exit 1"], what="installing vLLM's packages")


def full(steps: Steps) -> None:
    run(["sh", "-c", "echo 'write x: no space left on device' >&2; exit 1"])


def full_file(steps: Steps) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "vllm.tar")


def full_tree(steps: Steps) -> None:
    raise shutil.Error([("a", "b", f"[Errno 28] {os.strerror(errno.ENOSPC)}: 'b'")])


@pytest.mark.parametrize(
    ("fail", "said", "following"),
    [
        (offline, "The network does not answer", "check the network and its proxies; then: "),
        (offline_image, "The network does not answer", "check the network and its proxies; then: "),
        (full, "The disk is full", "df -h; then: "),
        (full_file, "The disk is full", "df -h; then: "),
        (full_tree, "The disk is full", "df -h; then: "),
    ],
)
def test_what_stops_it_is_one_sentence_and_the_next_command(
    fail: Callable[[Steps], None],
    said: str,
    following: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[str] = []
    monkeypatch.setattr(entry, "is_root", lambda: True)
    wanted = [Thing("first", lambda steps: made.append("first")), Thing("the model", fail)]
    monkeypatch.setattr(ahead, "everything", lambda cluster, helper: wanted)
    assert cli.run(["prefetch"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2] == f"{said}: the model was not fetched. What was fetched before it is kept."
    assert lines[-1].startswith(f"Next: {following}") and lines[-1].endswith("course prefetch")
    assert made == ["first"]


def test_any_other_fault_of_an_image_stays_one_of_its_build() -> None:
    with pytest.raises(build.ImageBuildFailed, match="undefined"):
        build.run(["sh", "-c", "echo undefined >&2; exit 1"], what="compiling")


def test_without_a_cluster_images_are_made_and_nothing_is_pulled(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(launch.preflight, "require", lambda steps: None)
    monkeypatch.setattr(launch, "built", lambda spec, steps: made.append(spec.name))
    launch.fetch_ahead("nothing", ["model", "qdrant"], Steps())
    assert made == ["model", "qdrant"]

    folder = settings.node_dir("kept")
    (folder / "data" / registry.REMEMBERED).parent.mkdir(parents=True)
    (folder / "data" / registry.REMEMBERED).write_text("official\n")
    monkeypatch.setattr(
        launch, "existing", lambda name: launch.Sandbox(folder, launch.addresses.Addresses(1))
    )
    made.clear()
    launch.fetch_ahead("kept", ["model", "qdrant"], Steps())
    assert made == ["model"], "Qdrant's official image is pulled when its cluster runs"


def test_nothing_is_begun_ahead_while_somebody_waits() -> None:
    events: list[str] = []
    with turns.first():
        background = threading.Thread(
            target=ahead.fetch,
            args=([Thing("a", lambda steps: events.append("fetched"))], Steps()),
            kwargs={"before_each": turns.stand_back},
        )
        background.start()
        with turns.first():  # two may wait at once
            events.append("waited for")
        time.sleep(0.2)
        events.append("done")
    background.join(timeout=60)
    assert events == ["waited for", "done", "fetched"]


def test_who_waits_is_not_stopped_by_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(name: str) -> Path:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(turns, "_lock", cannot)
    with turns.first():
        pass


def test_who_needs_what_is_being_made_waits_for_that_alone_and_it_is_made_once() -> None:
    began, go = threading.Event(), threading.Event()
    made: list[str] = []

    def slowly(content: Path) -> None:
        began.set()
        assert go.wait(60)
        made.append("slow")

    background = threading.Thread(target=cache.ensure, args=("things", "slow", slowly))
    background.start()
    assert began.wait(60)
    cache.ensure("things", "other", lambda content: made.append("other"))
    assert made == ["other"]
    foreground = threading.Thread(target=cache.ensure, args=("things", "slow", slowly))
    foreground.start()
    go.set()
    for thread in (background, foreground):
        thread.join(timeout=60)
    assert made == ["other", "slow"]


def test_one_process_of_a_home_fetches_behind_pages() -> None:
    with turns.only_one() as one, turns.only_one() as other:
        assert (one, other) == (True, False)
    with turns.only_one() as again:
        assert again


def test_what_is_fetched_behind_a_page_has_the_lowest_priority() -> None:
    shown = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    code = f"""
        import subprocess, sys
        from helpers.embedded import turns
        turns.step_aside()
        subprocess.run([sys.executable, "-c", {shown!r}])
        subprocess.run(["ionice", "-p", str(__import__("os").getpid())])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(turns.LOWEST), "idle"]


INTERRUPTED = """
    import sys, time
    from helpers import cli
    from helpers.embedded import ahead, cache, entry
    def half(content):
        (content / "file").write_text("half")
        print("begun", flush=True)
        time.sleep(600)
    entry.is_root = lambda: True
    ahead.everything = lambda cluster, helper: [ahead.Thing("a", lambda steps: cache.ensure("things", "k", half))]
    sys.exit(cli.run(["prefetch"]))
"""


def test_ctrl_c_leaves_nothing_half_written(own_home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_interruptible,
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert [path.name for path in (own_home / "cache" / "things").iterdir()] == [".k.lock"]


def _interruptible() -> None:
    """Whoever runs the tests in the background has told their processes not to hear Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


SERVER = """
    import time
    from helpers.embedded import ahead, behind, cache, entry
    from helpers.embedded.steps import Steps
    def half(content):
        (content / "file").write_text("half")
        time.sleep(600)
    ahead.SETTLE_S = 0
    ahead.things = lambda cluster, helper: [ahead.Thing("a", lambda steps: cache.ensure("things", "k", half))]
    entry.is_root = lambda: True
    entry.up = lambda cluster, steps, helper: None
    behind.up_then_fetch("nothing", Steps())
    time.sleep(600)
"""


@contextmanager
def notebook_server() -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SERVER)])
    try:
        yield server
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def test_what_is_fetched_behind_a_page_ends_with_the_notebook_server(own_home: Path) -> None:
    things = own_home / "cache" / "things"
    with notebook_server():
        _until(lambda: bool(list(things.glob(".k.*/content/file"))))
        with turns.only_one() as alone:
            assert not alone
    _until(lambda: [path.name for path in things.iterdir()] == [".k.lock"])
    _until(_nobody_fetches)


def _nobody_fetches() -> bool:
    with turns.only_one() as alone:
        return alone


def test_a_fault_behind_the_page_is_said_in_the_terminal_and_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ahead, "SETTLE_S", 0)
    monkeypatch.setattr(turns, "step_aside", lambda: None)
    monkeypatch.setattr(ahead, "things", lambda cluster, helper: [Thing("the model", offline)])
    ahead.behind_page("nothing", None)
    said = capsys.readouterr().err
    assert "The network does not answer: the model was not fetched." in said
    assert "course prefetch" in said
    assert "The network does not answer" in ahead.log_file().read_text()


def test_when_a_page_can_be_opened_is_seen_from_outside() -> None:
    code = (
        "import socket; s = socket.socket(); input(); s.bind(('127.0.0.1', 0)); s.listen(); print(); input()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        with socket.socket() as ours:
            ours.bind(("127.0.0.1", 0))
            ours.listen()
            assert not behind.listens(server.pid), "another process listens, not that one"
        server.stdin.write("\n")
        server.stdin.flush()
        server.stdout.readline()
        assert behind.listens(server.pid)
    finally:
        server.kill()
        server.wait()


def test_the_kinds_of_fault_are_those_that_the_helper_of_root_names() -> None:
    from helpers.embedded import elevate

    for kind in (NoNetwork, DiskFull):
        told = {"kind": kind.__name__, "message": "m", "next_command": "n"}
        assert type(elevate._error(told)) is kind
    assert issubclass(NoNetwork, StepFailed)


def _until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within a minute"
        time.sleep(0.05)
