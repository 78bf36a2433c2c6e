"""Hidden checks and figures of one's own: a copied manifest falls short, and nothing leaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.classroom.marking.hidden import HiddenInvalid, HiddenPackage, load_hidden
from helpers.classroom.seats.variables import LABEL, Variables, variables
from helpers.cluster.fake import FakeCluster
from helpers.cluster.quantity import quantity
from helpers.grading import Lab, Report, Status, grade
from helpers.grading.author import Mutant, Proofs, prove_on_fakes
from helpers.grading.changes import Change, steps
from helpers.grading.redact import redact
from helpers.grading.report import HiddenChecks
from helpers.labs.lab01_substrate import mutants
from helpers.labs.lab01_substrate.checks import SYSTEM
from helpers.labs.registry import load_lab
from helpers.stack.quota import COMPUTE, PLANNED, VLLM, arithmetic, total_of

EXAMPLE = Path(__file__).resolve().parent.parent / "hidden_example"
ADA, LIN = variables("0" * 32), variables("1" * 32)
PUBLISHED = {
    "seat": "seat-6bdff5c2",
    "limits_cpu": 17,
    "limits_memory_gib": 111,
    "requests_storage_gib": 406,
    "pods": 15,
    "collection": "course_docs_4a39ea",
}
KEYS = {"limits.cpu": "limits_cpu", "limits.memory": "limits_memory", "requests.storage": "requests_storage"}


def figures_of(mine: Variables, label: str | None = None, **changes: str) -> Change:
    """The quota as the learner with these figures writes it."""
    written = {KEYS.get(name, name): value for name, value in mine.quota.items()} | changes

    def change(cluster: Any) -> None:
        mutants.quota(**written)(cluster)
        raw = dict(cluster.view().get("ResourceQuota", "llm-system-quota", SYSTEM).raw)
        labels = {LABEL: mine.seat if label is None else label}
        raw["metadata"] = {
            **raw["metadata"],
            "labels": {key: value for key, value in labels.items() if value},
        }
        cluster.put(raw)

    return change


def extended(mine: Variables = ADA) -> Lab:
    (lab,) = load_hidden(EXAMPLE).labs(["01"], mine)
    return lab


@pytest.fixture(scope="module")
def package() -> HiddenPackage:
    return load_hidden(EXAMPLE)


# Figures


def test_the_same_nonce_gives_the_same_figures_for_ever() -> None:
    """Published: a class that began with an older course must find its figures again."""
    assert variables("0" * 32) == ADA
    assert ADA.to_dict() == PUBLISHED


def test_learners_figures_differ() -> None:
    seats = [variables(f"{number:032x}") for number in range(1000)]
    assert len({item.seat for item in seats}) == len({item.collection for item in seats}) == 1000
    quotas = [tuple(item.quota.items()) for item in seats]
    assert len(set(quotas)) > 980


def test_every_learners_figures_pass_the_public_arithmetic() -> None:
    too_much = total_of([*PLANNED, VLLM])
    for number in range(500):
        own = {name: quantity(value) for name, value in variables(f"{number:032x}").quota.items()}
        hard = {name: quantity(value) for name, value in mutants.HARD.items()} | own
        assert all(line.fits for line in arithmetic(hard))
        assert all(hard[name] < too_much[name] for name in (*COMPUTE, "requests.storage"))
        assert hard["pods"] <= 20


def test_nobody_has_figures_without_a_nonce() -> None:
    with pytest.raises(ValueError, match="nonce"):
        variables("")


# The example package


def test_the_example_judges_every_state_rightly() -> None:
    shared = {"hidden.figures": "another figure", "hidden.seat": "somebody else's"}
    wrong = [
        Mutant("a neighbour's manifest, copied", figures_of(LIN), shared),
        Mutant("the manifest that is handed around", mutants.quota(), {"hidden.figures": "another figure"}),
        Mutant("a neighbour's label on own figures", figures_of(ADA, LIN.seat), {"hidden.seat": "else's"}),
        Mutant("no label", figures_of(ADA, ""), {"hidden.seat": "none"}),
        Mutant("one figure off", figures_of(ADA, pods="17"), {"hidden.figures": "pods: another figure"}),
    ]
    solution = steps(mutants.SOLUTION, figures_of(ADA))
    proofs = Proofs(start=mutants.node(), solution=solution, mutants=wrong)
    assert [finding for finding in prove_on_fakes(extended(), proofs) if finding.problem] == []


def graded(labs: Sequence[Lab], change: Change, home: Path) -> Report:
    cluster = FakeCluster()
    for item in (mutants.node(), mutants.SOLUTION, change):
        item(cluster)
    return grade(labs, cluster, journals=home)


def test_a_copied_manifest_passes_in_public_and_not_in_hidden(tmp_path: Path) -> None:
    report = graded([extended()], figures_of(LIN), tmp_path)
    assert {result.status for result in report.verdicts if not result.hidden} == {Status.PASS}
    assert {result.status for result in report.verdicts if result.hidden} == {Status.FAIL}
    assert report.standing == "public 14/14, hidden 0/2"


def test_the_lab_that_everybody_holds_is_not_changed(package: HiddenPackage) -> None:
    before = load_lab("01").checks
    (copy,) = package.labs(["01"], ADA)
    assert load_lab("01").checks == before and len(copy.checks) == len(before) + 2
    (untouched,) = package.labs(["02"], ADA)
    assert untouched is load_lab("02")


def test_what_learners_are_told_is_how_many_and_how_much(package: HiddenPackage) -> None:
    assert package.summary() == {"01": HiddenChecks(2, 4)}


# What a learner may see


def test_closed_hidden_checks_are_pending_and_leave_no_trace(tmp_path: Path) -> None:
    report = graded([extended()], figures_of(ADA), tmp_path)
    shown = redact(report, opened=False)
    assert shown.standing == "public 14/14, hidden 2 pending"
    assert shown.pending == HiddenChecks(2, 4) and shown.possible == report.possible - 4
    assert "hidden." not in shown.to_json() and "seat" not in shown.to_json()
    assert Report.from_json(shown.to_json()) == shown


def test_opened_hidden_checks_show_verdict_and_reasons(tmp_path: Path) -> None:
    shown = redact(graded([extended()], figures_of(LIN), tmp_path), opened=True)
    figures = next(result for result in shown.verdicts if result.check == "hidden.figures")
    assert "another figure" in figures.message and "Every seat has figures of its own" in figures.message
    assert shown.pending is None and shown.standing == "public 14/14, hidden 0/2"


BROKEN_CHECK = '''
from helpers.classroom.marking.hidden import HiddenLab
lab = HiddenLab("1")

@lab.check("hidden.broken", needs=["namespaces"])
def broken(cluster):
    """It breaks."""
    return secret_answer["the-figure-is-17"]
'''


def test_a_hidden_check_that_breaks_says_nothing_of_its_code(tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text(BROKEN_CHECK)
    (lab,) = load_hidden(tmp_path).labs(["01"], None)
    report = graded([lab], figures_of(ADA), tmp_path)
    assert "secret_answer" in report.to_json()
    for opened in (True, False):
        text = redact(report, opened=opened).to_json()
        assert "secret_answer" not in text and ".log" not in text
    shown = redact(report, opened=True).verdicts[-1]
    assert shown.status is Status.ENV_ERROR and "your instructor can see why" in shown.message


# Packages that cannot be used

DECLARES = 'from helpers.classroom.marking.hidden import HiddenLab\nlab = HiddenLab("{lab}")\n'
CHECK = '\n@lab.check("{id}"{more})\ndef check({parameters}):\n    """A criterion."""\n'


def module(id: str = "hidden.x", lab: str = "01", more: str = "", parameters: str = "cluster") -> str:
    return DECLARES.format(lab=lab) + CHECK.format(id=id, more=more, parameters=parameters)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (module("quota.gpu"), "lab 01 has quota.gpu twice"),
        (module() + CHECK.format(id="hidden.x", more="", parameters="cluster"), "hidden.x twice"),
        (module(lab="77"), "there is no lab '77'"),
        (module(more=', needs=["nothing.like.it"]'), "needs nothing.like.it, which does not exist"),
        (module(parameters="a, b, c"), r"must take \(cluster\) or \(cluster, mine\)"),
        (
            "ANSWER = 'sesame'\n\nraise ValueError(ANSWER)",
            r"checks.py, line 3 cannot be imported: ValueError$",
        ),
        ("the answer is sesame", "checks.py, line 1 cannot be imported: SyntaxError$"),
        ("import sesame", "line 1 cannot be imported: ModuleNotFoundError$"),
        ("", "declares no hidden check"),
    ],
)
def test_a_package_that_cannot_be_used_is_refused_without_showing_its_code(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "checks.py").write_text(text)
    with pytest.raises(HiddenInvalid, match=reason) as refused:
        load_hidden(tmp_path)
    assert "sesame" not in str(refused.value)


def test_the_same_check_in_two_modules_is_refused(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(module())
    with pytest.raises(HiddenInvalid, match=r"hidden\.x twice"):
        load_hidden(tmp_path)


def test_modules_with_an_underscore_are_helpers_and_no_checks(tmp_path: Path) -> None:
    (tmp_path / "_shared.py").write_text("raise ValueError")
    (tmp_path / "checks.py").write_text(module())
    assert load_hidden(tmp_path).summary() == {"01": HiddenChecks(1, 1)}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HiddenInvalid, match="nowhere is not a folder"):
        load_hidden(tmp_path / "nowhere")


def test_a_check_of_ones_own_figures_is_refused_for_a_learner_without_any(package: HiddenPackage) -> None:
    with pytest.raises(HiddenInvalid, match="has no seat"):
        package.labs(["01"], None)
