"""What the pages give to be typed by hand, typed as it is printed: every answer is as the page says.

One story on solved labs. Lab 01 comes last: its pods need the card that vLLM holds.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from helpers import notebook as nb
from helpers import shell
from helpers.cluster import Cluster
from helpers.grading.changes import yaml_cells
from helpers.labs.lab02_inference.draw import serving_session
from helpers.labs.registry import lab_ids
from helpers.stack import gpu, lent_card
from tests.live.course_command import environment
from tests.typed_commands import typed

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.solved(*lab_ids())]
Answer = subprocess.CompletedProcess[str]
REFUSED, OVER, STATUS = 7, 28, 22


def session(lab: str, cluster: Cluster) -> nb.LabSession:
    profile = cluster.profile()
    return serving_session(nb.LabSession(lab, cluster, cluster.identity(), profile, None, profile.images))


def printed(lab: str, cluster: Cluster) -> list[str]:
    """The commands as the page's card shows them on this cluster."""
    card = nb.by_hand(session(lab, cluster), "\n".join(command.line for command in typed(lab)))
    return [html.unescape(line) for line in re.findall("<pre>(.*?)</pre>", str(card.text))]


def type_in(line: str) -> Answer:
    """One line in a shell with what the page's terminal has."""
    given = (
        {"KUBECONFIG": os.environ["COURSE_TEST_KUBECONFIG"]} if "COURSE_TEST_KUBECONFIG" in os.environ else {}
    )
    own = {**environment(), **shell.variables(), **given}
    return subprocess.run(
        ["bash", "-c", line], env=own, capture_output=True, text=True, timeout=180, check=False
    )


def answers(lab: str, cluster: Cluster) -> Iterator[Answer]:
    """Type one command after the other; each one when its answer is asked for."""
    yield from map(type_in, printed(lab, cluster))


def body(answer: Answer) -> dict[str, object]:
    assert answer.returncode == 0, answer.stderr
    found: dict[str, object] = json.loads(answer.stdout)
    return found


@pytest.fixture(scope="module", autouse=True)
def client(cluster: Cluster) -> None:
    """Labs 02 and 03 put it there; where their pages were not opened, it is put there now."""
    nb.applied(session("02", cluster), nb.client_yaml())


def test_lab_02_the_template_counts_too(cluster: Cluster) -> None:
    ready, models, chat = answers("02", cluster)
    assert ready.returncode == 0, ready.stderr
    assert (
        cluster.profile().served_model_name in json.dumps(body(models)) and "max_model_len" in models.stdout
    )
    said = body(chat)
    assert isinstance(said["usage"], dict)
    assert 20 < said["usage"]["prompt_tokens"] < 80
    assert "finish_reason" in chat.stdout


def test_lab_03_a_misspelled_field_finds_nothing_and_is_no_error(cluster: Cluster) -> None:
    ready, readyz, right, misspelled = answers("03", cluster)
    assert ready.returncode == readyz.returncode == 0, ready.stderr + readyz.stderr
    counts = [
        found["count"]
        for found in (body(right)["result"], body(misspelled)["result"])
        if isinstance(found, dict)
    ]
    assert counts[0] > 0 and counts[1] == 0


def test_lab_04_curl_ends_with_the_code_that_says_how_far_it_came(cluster: Cluster) -> None:
    app, outsider, api_server = answers("04", cluster)
    assert app.returncode == 0 and app.stdout.strip() == "200", app.stderr
    assert outsider.returncode in (REFUSED, OVER), outsider.stderr
    assert f"exit code {outsider.returncode}" in outsider.stderr
    assert api_server.returncode == STATUS, api_server.stderr


def test_lab_05_an_address_is_listed_before_it_is_ready_and_the_client_is_refused(cluster: Cluster) -> None:
    deleted, listed, described, refused, served = printed("05", cluster)
    (before,) = cluster.view().endpoint_slices("vllm", "llm-system")
    assert type_in(deleted).returncode == 0
    new = cluster.wait_until(
        "the new pod's address in the list",
        lambda view: next((ip for ip in _addresses(type_in(listed).stdout) if ip != before), None),
        timeout_s=120,
    )
    said, curl, other = type_in(described), type_in(refused), type_in(served)
    assert new in said.stdout and re.search(r"Ready:\s+false", said.stdout), said.stdout
    assert curl.returncode == REFUSED, curl.stderr
    assert other.returncode == 0, other.stderr
    cluster.wait_ready("Deployment", "vllm", "llm-system", timeout_s=300)


def _addresses(table: str) -> list[str]:
    return re.findall(r"\d+\.\d+\.\d+\.\d+", table)


def test_lab_08_the_front_asks_who_calls_and_the_queue_answers_nobody(cluster: Cluster) -> None:
    front, queue, workers, *monitored = answers("08", cluster)
    assert front.returncode == 0 and front.stdout.strip().endswith("401"), front.stderr
    assert queue.returncode == OVER, queue.stderr
    assert workers.returncode == 0, workers.stderr
    assert monitored and all(item.returncode == 0 for item in monitored), [item.stderr for item in monitored]


def test_lab_01_the_holder_sleeps_and_the_next_in_line_is_placed_when_it_is_gone(cluster: Cluster) -> None:
    lent_card.lend(cluster)
    try:
        for name in ("idle-holder", "next-in-line"):
            cluster.delete("Pod", name, "llm-workshop", wait_s=60, grace_s=0)
        nb.applied(session("01", cluster), yaml_cells("01")["idle_yaml"])
        gpu.wait_for_phase(cluster, "idle-holder", "llm-workshop", ("Running",))
        _unplaced(cluster)
        processes, variables, waiting, deleted, _next = answers("01", cluster)
        assert "sleep 3600" in processes.stdout, processes.stderr
        assert "NVIDIA_VISIBLE_DEVICES=" in variables.stdout
        assert "Insufficient nvidia.com/gpu" in waiting.stdout
        assert deleted.returncode == _next.returncode == 0
        gpu.wait_for_phase(cluster, "next-in-line", "llm-workshop", ("Succeeded",))
    finally:
        lent_card.give_back(cluster)


def _unplaced(cluster: Cluster) -> None:
    cluster.wait_until(
        "the scheduler's word on next-in-line",
        lambda view: view.pod("next-in-line", "llm-workshop").conditions("PodScheduled"),
        timeout_s=60,
    )
