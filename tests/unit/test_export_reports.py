"""GitHub Classroom, Markdown and JUnit: one Report as others read it, and what is pending in each."""

from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree as ET

import pytest
from junitparser import JUnitXml

from helpers.grading.export.github import to_github, to_github_output
from helpers.grading.export.junit import class_junit, to_junit
from helpers.grading.export.markdown import to_markdown
from helpers.grading.report import HiddenChecks, Report
from helpers.grading.verdict import Status
from tests.unit import export_data as data

ALL = data.report(*(data.result(f"a.{status.value.lower()}", status) for status in Status))
LATE = data.report(data.result("a", Status.PASS), data.result("b", Status.FAIL, hidden=True))


# GitHub Classroom


def test_the_result_has_the_keys_of_the_published_format() -> None:
    found = json.loads(to_github(ALL))
    assert list(found)[:4] == ["version", "status", "max_score", "tests"]
    for test in found["tests"]:
        assert {"name", "status", "score", "test_code", "filename", "line_no", "duration"} <= set(test)
        assert test["status"] in ("pass", "fail", "error") and test["line_no"] == 0


def test_a_step_hands_it_on_as_base64_of_the_same() -> None:
    assert json.loads(base64.b64decode(to_github_output(ALL))) == json.loads(to_github(ALL))


def test_the_reporters_sum_is_the_reports() -> None:
    """As autograding-grading-reporter adds up: the scores of all tests, of max_score."""
    found = json.loads(to_github(ALL))
    assert sum(test["score"] for test in found["tests"]) == ALL.earned
    assert found["max_score"] == ALL.possible


@pytest.mark.parametrize(
    ("report", "status"), [(data.PASSED, "pass"), (data.HALF, "fail"), (data.BROKEN, "error"), (ALL, "error")]
)
def test_the_worst_verdict_speaks_for_all(report: Report, status: str) -> None:
    assert json.loads(to_github(report))["status"] == status


def test_a_hidden_check_shows_no_way_to_run_it() -> None:
    public, hidden = json.loads(to_github(LATE))["tests"]
    assert public["test_code"] == "course grade 01 --only a" and hidden["test_code"] == ""


# What is pending


def test_no_format_says_passed_while_hidden_checks_are_pending() -> None:
    for text in (to_github(data.PENDING), to_markdown(data.PENDING)):
        assert "public 2/2, hidden 2 pending" in text and "all passed" not in text.lower()
    xml = JUnitXml.fromstring(to_junit(data.PENDING).encode())
    assert (xml.tests, xml.skipped, xml.failures) == (4, 2, 0)


def test_opened_hidden_checks_are_counted_apart() -> None:
    assert LATE.standing == "public 1/1, hidden 0/1"


def test_pending_survives_the_reports_own_json_and_is_absent_without() -> None:
    assert Report.from_json(data.PENDING.to_json()).pending == HiddenChecks(2, 4)
    assert "pending" not in json.loads(data.PASSED.to_json())


# Markdown


def test_the_summary_tells_points_standing_place_and_every_verdict() -> None:
    text = to_markdown(ALL)
    assert "**6 of 24 points; public 1/6**" in text
    assert "Attested by class." in text and "GPU simulated" in text
    assert len(re.findall(r"^\| a\.", text, re.MULTILINE)) == len(Status)


def test_a_learners_own_report_is_called_a_claim() -> None:
    assert "A claim: no signature was verified." in to_markdown(
        data.report(data.result("a", Status.PASS), by=None)
    )


def test_what_was_observed_can_neither_format_nor_mention_nor_break_the_table() -> None:
    text = to_markdown(data.HALF)
    observed = next(line for line in text.splitlines() if line.startswith("  - observed"))
    assert not re.search(r"[<>|@`*\[\x1b\u202e]", observed), observed
    assert "&#60;b&#62;bold&#60;/b&#62;" in observed and "&#64;everyone" in observed


def test_a_long_observation_is_cut() -> None:
    long = data.report(data.result("a", Status.FAIL, observed="x" * 100_000))
    assert len(to_markdown(long)) < 2000


# JUnit


def test_a_class_is_a_suite_for_each_learner_and_lab() -> None:
    xml = JUnitXml.fromstring(class_junit(data.CLASS).encode())
    assert [suite.name for suite in xml] == ["ada lab 01", "lin lab 01", "eve lab 01"]
    assert (xml.tests, xml.failures, xml.errors) == (6, 1, 1)


def test_no_character_breaks_the_xml() -> None:
    root = ET.fromstring(to_junit(data.HALF))
    assert "naïve 模型" in "".join(root.itertext())
