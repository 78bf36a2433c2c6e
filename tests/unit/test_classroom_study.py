"""What goes back to learners, and what they make of it: feedback, certificates, the page of their own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from helpers.classroom import commands
from helpers.classroom.folder import ClassFolder, Member
from helpers.classroom.marking.feedback import announce, write_feedback
from helpers.classroom.marking.hidden import load_hidden
from helpers.classroom.records.attest import Edited, KeyRing, NotSigned, OtherKey, PublicKey
from helpers.classroom.records.certificate import NotOneLearner, attested, certificate
from helpers.classroom.records.history import History
from helpers.errors import LabError
from helpers.grading.pages.page import page
from helpers.grading.pages.study import study_page
from helpers.grading.progress import LabProgress, LastReports
from helpers.grading.report import Binding, Report
from helpers.grading.verdict import Status
from helpers.labs.registry import lab_ids, load_lab
from tests.unit import export_data as data
from tests.unit.test_grading_seat import seated

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TITLES = {"01": "Substrate", "03": "Memory"}
WITH_HIDDEN = data.report(
    data.result("quota.gpu", Status.PASS),
    data.result("hidden.figures", Status.FAIL, 3, hidden=True, observed="another figure"),
)


class Balanced(HTMLParser):
    """Every tag is closed in its order, and nothing is fetched from anywhere."""

    VOID = ("meta", "br", "line", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "img", "object")
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once, as SVG does."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(home: Path) -> ClassFolder:
    """A class of two, of whom one was graded with a hidden check."""
    made = ClassFolder.at("class").with_members([Member.new(data.ADA), Member.new(data.LIN)]).save()
    ada = made.member("ada")
    report = replace(WITH_HIDDEN, binding=Binding("class", "ada", ada.nonce, ada.suffix))
    History(made.history_dir(ada)).add("attested", KeyRing(made.path).sign(report.to_dict()))
    return made


def run(*arguments: str) -> tuple[int, str]:
    """The commands as `course` composes them."""
    app = Typer()
    commands.register(app)
    done = CliRunner().invoke(app, list(arguments))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def signed_by(folder: ClassFolder, report: Report) -> str:
    return json.dumps(KeyRing(folder.path).sign(report.to_dict()))


def keys(folder: ClassFolder) -> list[PublicKey]:
    return KeyRing(folder.path).public_keys()


# Feedback


@pytest.mark.parametrize("opened", [False, True])
def test_feedback_is_signed_and_shows_hidden_checks_only_when_opened(
    folder: ClassFolder, tmp_path: Path, opened: bool
) -> None:
    count = write_feedback(folder, folder.active, ["01"], tmp_path / "back", opened=opened)
    text = (tmp_path / "back" / "ada" / "lab-01.json").read_text()
    item = attested(text, keys(folder))
    assert count == 1 and item.learner == "ada"
    assert ("another figure" in text) is opened
    expected = "public 1/1, hidden 0/1" if opened else "public 1/1, hidden 1 pending"
    assert item.report.standing == expected
    assert expected in (tmp_path / "back" / "ada" / "lab-01.md").read_text()


def test_the_command_writes_a_folder_for_each_graded_learner(folder: ClassFolder, home: Path) -> None:
    code, said = run("class", "feedback", "-o", "back")
    assert code == 0 and "1 signed Reports in back, hidden checks closed." in said
    assert [path.name for path in sorted((home / "back").iterdir())] == ["ada"]


def test_seats_are_told_how_many_and_how_much_and_nothing_else(
    folder: ClassFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = seated("ada")
    monkeypatch.setattr(ClassFolder, "instructor_cluster", lambda self, member: cluster)
    package = load_hidden(Path(__file__).parent.parent / "hidden_example")
    assert [item.problem for item in announce(folder, folder.active[:1], package)] == [""]
    told = cluster.view().get("ConfigMap", "course-seat", "llm-apps").path("data")
    assert json.loads(told["hidden"]) == {"01": {"count": 2, "points": 4.0}} and told["learner"] == "ada"
    list(announce(folder, folder.active[:1], None))
    assert cluster.view().get("ConfigMap", "course-seat", "llm-apps").path("data")["hidden"] == "{}"
    cluster.go_down()
    assert "is down" in next(iter(announce(folder, folder.active[:1], package))).problem


# Certificates


def test_a_certificate_of_own_runs_says_that_it_is_a_claim() -> None:
    text = certificate([], {"01": data.PASSED}, TITLES, name="Ada <b>", now=NOW)
    Balanced(text)
    assert "Not attested: a claim." in text and "Ada &lt;b&gt;" in text
    assert "<h2>Attested</h2>" not in text


def test_a_signed_report_is_attested_and_the_rest_stays_a_claim(folder: ClassFolder) -> None:
    bound = replace(data.PASSED, binding=Binding("class", "ada", "n"))
    item = attested(signed_by(folder, bound), keys(folder))
    other = data.report(data.result("memory.size", Status.FAIL, lab="03"), by=None)
    text = certificate([item], {"01": data.HALF, "03": other}, TITLES, now=NOW)
    parser = Balanced(text)
    first, _, second = text.partition("<h2>Claimed</h2>")
    assert "01 Substrate" in first and "10 / 10" in first and str(keys(folder)[0]) in first
    assert "03 Memory" in second and "01 Substrate" not in second
    (link,) = parser.links
    assert link.startswith("data:application/json;base64,"), "whoever gets the page can verify again"


def test_pending_hidden_checks_stand_on_a_certificate(folder: ClassFolder) -> None:
    item = attested(signed_by(folder, data.PENDING), keys(folder))
    assert "public 2/2, hidden 2 pending" in certificate([item], {}, TITLES, now=NOW)


def test_a_report_that_nobody_signed_or_somebody_changed_makes_no_certificate(folder: ClassFolder) -> None:
    signed = signed_by(folder, data.HALF)
    with pytest.raises(Edited):
        attested(signed.replace('"earned": 0', '"earned": 6'), keys(folder))
    with pytest.raises(NotSigned):
        attested(data.PASSED.to_json(), keys(folder))
    with pytest.raises(OtherKey):
        attested(signed, [PublicKey(b"0" * 32)])
    partial = replace(data.PASSED, only=("quota.gpu",))
    with pytest.raises(LabError, match="some checks only"):
        attested(signed_by(folder, partial), keys(folder))


def test_reports_of_two_learners_are_no_certificate(folder: ClassFolder) -> None:
    items = [
        attested(signed_by(folder, replace(data.PASSED, binding=Binding("class", who, "n"))), keys(folder))
        for who in ("ada", "lin")
    ]
    with pytest.raises(NotOneLearner, match="ada, lin"):
        certificate(items, {}, TITLES, now=NOW)


def test_with_nothing_done_there_is_no_certificate() -> None:
    with pytest.raises(LabError, match="nothing to certify"):
        certificate([], {}, TITLES, now=NOW)


def test_the_command_makes_a_certificate_of_feedback(folder: ClassFolder, home: Path) -> None:
    run("class", "feedback", "-o", "back")
    key = str(keys(folder)[0])
    code, said = run("certificate", "--signed", "back/ada/lab-01.json", "--key", key, "--as", "Ada")
    assert code == 0 and "Certificate (attested)" in said
    assert "hidden 1 pending" in (home / "certificate.html").read_text()
    assert run("certificate", "--signed", "back/ada/lab-01.json")[0] == 2, "without a key nothing is checked"


# The page of one's own


def progress(lab: str, minutes: int | None, checks: int) -> LabProgress:
    done = f"2026-01-01T{9 + minutes // 60:02d}:{minutes % 60:02d}:00+00:00" if minutes else None
    passed = {f"c{number}": f"2026-01-01T09:{number:02d}:00+00:00" for number in range(checks)}
    return LabProgress(lab, "2026-01-01T09:00:00+00:00", 10, 10, done, "uid", "simulated", passed)


def test_the_page_has_charts_verdicts_and_evidence_and_needs_no_network() -> None:
    known = [load_lab(number) for number in lab_ids()]
    labs = {"01": progress("01", 70, 14), "03": progress("03", None, 2)}
    text = study_page(labs, {"01": data.PENDING, "03": data.HALF.of_lab("01")}, known, NOW)
    parser = Balanced(text)
    assert parser.links == [] and not re.search(r"url\((?!#)", text)
    assert text.count("<svg") == 3 and "1 h 10 min" in text
    assert f"1 of {len(known)}" in text and "A claim." in text
    assert "hidden 2 pending" in text and "public checks done" in text and "all passed</" not in text
    assert "ResourceQuota llm-system/q" in text and "resourceVersion 7" in text


def test_the_page_of_someone_who_has_not_begun_is_a_page_too() -> None:
    known = [load_lab(number) for number in lab_ids()]
    text = study_page({}, {}, known, NOW)
    Balanced(text)
    assert "<svg" not in text and text.count("not started") == len(known)


def test_what_was_observed_is_never_html() -> None:
    known = [load_lab("01")]
    text = study_page({}, {"01": data.HALF}, known, NOW)
    Balanced(text)
    assert "<b>bold" not in text and "default-src 'none'" in page("", "")


def test_the_command_writes_the_page(home: Path) -> None:
    LastReports().keep(data.PASSED)
    code, said = run("report", "--html", "mine.html")
    assert code == 0 and (home / "mine.html").resolve().as_uri() in said
    assert "2/2" in (home / "mine.html").read_text()


# Exports by command


@pytest.mark.parametrize("format", ["csv", "junit", "markdown", "github", "github-output"])
def test_a_report_is_exported_to_the_terminal_or_a_file(home: Path, format: str) -> None:
    (home / "report.json").write_text(replace(data.PENDING, attested_by=None).to_json())
    code, shown = run("export", "report.json", "--format", format)
    assert code == 0 and shown
    assert run("export", "report.json", "--format", format, "-o", "out") == (0, "")
    written = (home / "out").read_bytes().decode("utf-8-sig")
    assert written.split() == shown.split()


@pytest.mark.parametrize("format", ["csv", "junit", "markdown"])
def test_who_attested_a_report_is_not_believed_without_a_key(
    folder: ClassFolder, home: Path, format: str
) -> None:
    forged = replace(data.PASSED, attested_by="the instructor herself")
    (home / "report.json").write_text(forged.to_json())
    code, said = run("export", "report.json", "--format", format, "-o", "out")
    assert code == 0 and "without --key that is not checked" in said
    assert "herself" not in (home / "out").read_text()
    (home / "report.json").write_text(signed_by(folder, forged))
    run("export", "report.json", "--format", format, "-o", "out", "--key", str(keys(folder)[0]))
    assert "herself" in (home / "out").read_text()


def test_gradebooks_take_signed_reports_only(folder: ClassFolder, home: Path) -> None:
    run("class", "feedback", "-o", "back")
    template = "Student,ID,SIS Login ID,Section,Lab 01 (7)\n    Points Possible,,,,4\nA,1,ada,01,\n"
    (home / "gradebook.csv").write_text(template)
    options = ("--format", "canvas", "--template", "gradebook.csv")
    assert run("export", "back", *options)[0] == 2, "no key"
    code, said = run("export", "back", *options, "--key", str(keys(folder)[0]), "-o", "out.csv")
    assert code == 0 and "1 grades filled in" in said
    assert (home / "out.csv").read_text() == template.replace("A,1,ada,01,", "A,1,ada,01,4")
    (home / "back" / "ada" / "lab-01.json").write_text(data.PASSED.to_json())
    with pytest.raises(LabError, match=r"lab-01\.json: it says that class attested it"):
        run("export", "back", *options, "--key", str(keys(folder)[0]))


def test_a_class_is_exported_from_its_history_with_hidden_checks_closed(
    folder: ClassFolder, home: Path
) -> None:
    code, text = run("class", "export", "--format", "csv")
    assert code == 0 and "quota.gpu" in text and "hidden.figures" not in text
    assert "hidden.figures" in run("class", "export", "--format", "csv", "--open-hidden")[1]
    code, text = run("class", "export", "--format", "moodle")
    assert "Lab 01: 1 of 1 checks passed. Hidden checks pending: 1." in text


def test_a_graded_learner_whom_the_template_lacks_is_exit_code_1(folder: ClassFolder, home: Path) -> None:
    (home / "gradebook.csv").write_text("Student,ID,SIS Login ID,Section\n    Points Possible,,,\n")
    code, said = run("class", "export", "--format", "canvas", "--template", "gradebook.csv", "-o", "out.csv")
    assert code == 1 and "ada: has a result, and is not in gradebook.csv" in said


def test_a_class_that_nobody_graded_says_what_comes_first(home: Path) -> None:
    ClassFolder.at("class").with_members([Member.new(data.ADA)]).save()
    with pytest.raises(LabError, match="nobody was graded yet"):
        run("class", "export", "--format", "csv")


def test_wrong_words_are_refused(home: Path) -> None:
    (home / "report.json").write_text(data.PASSED.to_json())
    assert run("export", "report.json", "--format", "pdf")[0] == 2
    assert run("export", "report.json", "--format", "canvas")[0] == 2
    assert run("class", "hidden")[0] == 2
    with pytest.raises(LabError, match="cannot be read"):
        run("export", "nowhere.json", "--format", "csv")
