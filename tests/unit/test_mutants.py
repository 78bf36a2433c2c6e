"""Every check of every lab is proven: untouched at the start, passed when solved, failed when wrong."""

from __future__ import annotations

import pytest

from helpers.checks import lab_ids, load_lab, load_proofs
from helpers.grading.author import missing_proofs, prove_on_fakes


@pytest.mark.parametrize("number", lab_ids())
def test_each_lab_has_all_its_proofs(number: str) -> None:
    assert missing_proofs(load_lab(number), load_proofs(number)) == []


@pytest.mark.parametrize("number", lab_ids())
def test_each_check_says_the_right_thing_of_every_state(number: str) -> None:
    findings = prove_on_fakes(load_lab(number), load_proofs(number))
    assert [finding for finding in findings if finding.problem] == []


def test_check_ids_are_unique_over_all_labs() -> None:
    """One Report may hold several labs; exporters and boards name a check by its id."""
    ids = [check.id for number in lab_ids() for check in load_lab(number).checks]
    assert [name for name in dict.fromkeys(ids) if ids.count(name) > 1] == []
