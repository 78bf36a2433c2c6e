"""The proofs of checks are themselves proven: a check that judges wrongly must be found out."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from helpers.errors import ServerFault
from helpers.grading import Lab, Status, Verdict, expect
from helpers.grading.author import ALONE, Finding, Mutant, Proofs, Setting, missing_proofs, prove_on_fakes
from helpers.grading.render import print_proofs

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


def other_labs(cluster: Any) -> None:
    """Another lab's settings lie in a namespace of its own."""
    other = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-other"}}
    cluster.apply([other, {**config(gpus="7"), "metadata": {"name": "settings", "namespace": "llm-other"}}])


BESIDE = Setting("beside", other_labs, untouched=(Status.NOT_ATTEMPTED, Status.PASS))


def test_a_check_that_is_right_alone_and_mistakes_another_labs_objects_is_found_out() -> None:
    def looks_everywhere(cluster: Any) -> Verdict:
        right(cluster)
        found = cluster.list("ConfigMap", all_namespaces=True)
        return expect([item.path("data.gpus") for item in found if item.name == "settings"], equals=["1"])

    findings = prove_on_fakes(lab_with(looks_everywhere), GOOD, [ALONE, BESIDE])
    assert {(found.setting, found.state) for found in findings if found.problem} == {("beside", "solution")}


def test_what_other_labs_did_may_count_at_the_start_and_may_not_be_a_mistake() -> None:
    def other_is_empty(cluster: Any) -> Verdict:
        cluster.config_map(
            "settings", "llm-other" if cluster.find("Namespace", "llm-other") else "llm-system"
        )
        return expect("7", equals="1")

    def other_is_right(cluster: Any) -> Verdict:
        cluster.config_map(
            "settings", "llm-other" if cluster.find("Namespace", "llm-other") else "llm-system"
        )
        return expect("1", equals="1")

    def at_start(check: Any) -> list[tuple[str, str]]:
        found = prove_on_fakes(lab_with(check), GOOD, [ALONE, BESIDE])
        return [(item.setting, item.status) for item in found if item.problem and item.state == "start"]

    assert at_start(other_is_empty) == [("beside", "FAIL")]
    assert at_start(other_is_right) == []


def test_the_table_has_a_row_a_state_and_a_column_a_setting() -> None:
    only_alone = replace(setting("2"), in_class={})
    proofs = replace(GOOD, mutants=[setting("0"), only_alone])
    settings = [ALONE, Setting("in a class", suffix="ada")]
    console = Console(record=True, width=60, file=io.StringIO())
    print_proofs(prove_on_fakes(lab_with(lambda cluster: expect(1, equals=1)), proofs, settings), console)
    rows = [line.split() for line in console.export_text().splitlines()]
    assert rows[0] == ["state", "checks", "alone", "in", "a", "class"]
    assert rows[1:5] == [
        ["start", "all", "1", "WRONG", "WRONG"],
        ["solution", "all", "1", "ok", "ok"],
        ["0", "GPUs", "gpus", "WRONG", "WRONG"],
        ["2", "GPUs", "gpus", "WRONG", "–"],
    ]
    assert [row[:1] for row in rows[5:] if row[0] == "WRONG"] == [["WRONG"]] * 5


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
