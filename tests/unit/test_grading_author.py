"""The proofs of checks are themselves proven: a check that judges wrongly must be found out."""

from __future__ import annotations

from typing import Any

from helpers.errors import ServerFault
from helpers.grading import Lab, Status, Verdict, expect
from helpers.grading.author import Finding, Mutant, Proofs, missing_proofs, prove_on_fakes

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}}


def config(**data: str) -> dict[str, Any]:
    metadata = {"name": "settings", "namespace": "llm-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def solve(cluster: Any) -> None:
    cluster.apply([NAMESPACE, config(gpus="1")])


def setting(gpus: str) -> Mutant:
    return Mutant(
        f"{gpus} GPUs", apply=lambda cluster: cluster.apply(config(gpus=gpus)), fails={"gpus": gpus}
    )


def lab_with(check: Any) -> Lab:
    lab = Lab("99", "Tiny")
    check.__doc__ = "One GPU."
    lab.check("gpus")(check)
    return lab


def right(cluster: Any) -> Verdict:
    return expect(cluster.config_map("settings").data.get("gpus"), equals="1")


GOOD = Proofs(solution=solve, mutants=[setting("0"), setting("2"), setting("one")])


def problems(check: Any, proofs: Proofs = GOOD) -> list[Finding]:
    return [finding for finding in prove_on_fakes(lab_with(check), proofs) if finding.problem]


def test_a_right_check_is_proven() -> None:
    assert problems(right) == []
    assert len(prove_on_fakes(lab_with(right), GOOD)) == 5
    assert missing_proofs(lab_with(right), GOOD) == []


def test_a_check_that_always_passes_is_found_out() -> None:
    found = problems(lambda cluster: expect(1, equals=1))
    assert [finding.state for finding in found] == ["start", "0 GPUs", "2 GPUs", "one GPUs"]


def test_a_check_that_never_passes_is_found_out() -> None:
    found = problems(lambda cluster: expect(cluster.config_map("settings").name, equals="else"))
    assert "solution" in [finding.state for finding in found]


def test_a_check_that_fails_for_the_wrong_reason_is_found_out() -> None:
    found = problems(
        lambda cluster: expect(cluster.config_map("settings").data == {"gpus": "1"}, equals=True)
    )
    assert {finding.problem for finding in found} == {
        "“0” is not in what it observed",
        "“2” is not in what it observed",
        "“one” is not in what it observed",
    }


def test_a_check_that_breaks_on_a_wrong_cluster_is_found_out() -> None:
    def breaks(cluster: Any) -> Verdict:
        if cluster.config_map("settings").data["gpus"] == "2":
            raise ServerFault("broke")
        return right(cluster)

    assert [(finding.state, finding.status) for finding in problems(breaks)] == [("2 GPUs", "ENV_ERROR")]


def test_a_documented_start_status_is_accepted_and_checked() -> None:
    proofs = Proofs(start=solve, solution=solve, mutants=GOOD.mutants, start_statuses={"gpus": Status.PASS})
    assert problems(right, proofs) == []
    other = Proofs(solution=solve, mutants=GOOD.mutants, start_statuses={"gpus": Status.PASS})
    assert [finding.state for finding in problems(right, other)] == ["start"]


def test_what_the_author_owes_is_listed() -> None:
    proofs = Proofs(
        solution=solve, mutants=[setting("0"), setting("0")], start_statuses={"nope": Status.PASS}
    )
    assert missing_proofs(lab_with(right), proofs) == [
        "nope: there is no such check",
        "gpus: 2 of 3 wrong clusters",
        "two mutants are called “0 GPUs”",
    ]
