"""Every check of every lab is proven: untouched at the start, passed when solved, failed when wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.classroom.seats.rehearsal import in_a_class
from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.grading import Status, grade
from helpers.grading.author import ALONE, SOLUTION, fake_clusters, missing_proofs, prove_on_fakes
from helpers.grading.testing import VirtualRuntime
from helpers.labs.registry import lab_ids, load_lab, load_proofs
from helpers.labs.rehearsal import beside_other_labs


@pytest.mark.parametrize("number", lab_ids())
def test_each_lab_has_all_its_proofs(number: str) -> None:
    assert missing_proofs(load_lab(number), load_proofs(number)) == []


@pytest.mark.parametrize("number", lab_ids())
def test_each_check_says_the_right_thing_of_every_state(number: str) -> None:
    settings = [ALONE, in_a_class(), beside_other_labs(number)]
    findings = prove_on_fakes(load_lab(number), load_proofs(number), settings)
    assert [finding for finding in findings if finding.problem] == []


def test_check_ids_are_unique_over_all_labs() -> None:
    """One Report may hold several labs; exporters and boards name a check by its id."""
    ids = [check.id for number in lab_ids() for check in load_lab(number).checks]
    assert [name for name in dict.fromkeys(ids) if ids.count(name) > 1] == []


BROKEN = {
    "500": Response(500, b'{"kind": "Status", "message": "etcdserver: request timed out", "code": 500}'),
    "503 without JSON": Response(503, b"<html>Service Unavailable</html>"),
    "garbage": Response(200, b"\x00\xffnot JSON"),
    "not Kubernetes": Response(200, b"[1, 2]"),
    "403": Response(
        403,
        b'{"kind": "Status", "reason": "Forbidden", "code": 403,'
        b' "message": "pods is forbidden: User \\"eve\\" cannot list resource \\"pods\\""}',
    ),
    "401": Response(401, b'{"kind": "Status", "reason": "Unauthorized", "code": 401}'),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("number", lab_ids())
def test_a_broken_api_server_is_never_the_learners_fault(number: str, fault: str, tmp_path: Path) -> None:
    """The cluster says who it is, and then breaks: no check may turn that into FAIL or NOT_ATTEMPTED."""
    lab, proofs = load_lab(number), load_proofs(number)
    cluster = fake_clusters(proofs)(SOLUTION)
    who = ("/version", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/kube-public/configmaps")
    assert isinstance(cluster, FakeCluster)
    cluster.fail_with(lambda method, path: None if path.startswith(who) else BROKEN[fault])
    report = grade([lab], cluster, journals=tmp_path, runtime=VirtualRuntime())
    assert report.exit_code == 2
    assert {result.status for result in report.verdicts} <= {Status.ENV_ERROR, Status.BLOCKED}
