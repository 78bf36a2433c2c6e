"""The roster: read whole or not at all, with every problem named by its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.classroom.roster import Learner, RosterInvalid, read_roster, suffix_of
from helpers.cluster import Scope
from helpers.cluster.scope import COURSE_NAMESPACES
from helpers.errors import LabError

DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@pytest.fixture
def write(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "roster.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(RosterInvalid) as raised:
        read_roster(path)
    assert "nothing was done" in str(raised.value)
    return raised.value.problems


def test_a_roster_is_read_in_its_order(write) -> None:
    path = write("id,name,email\nada,Ada,ada@example.org\ns01,Number One,\n")
    assert read_roster(path) == [
        Learner("ada", "Ada", "ada@example.org"),
        Learner("s01", "Number One", ""),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffid,name,email\r\nada,Ada,ada@example.org\r\n",
        'id,name,email\n\n"ada","Ada","ada@example.org"\n,,\n\n',
        "id;name;email\nada;Ada;ada@example.org\n",
        "email,Section,NAME, Id \nada@example.org,7,Ada,  ada \n",
        "sep=;\r\nid;name;email\r\nada;Ada;ada@example.org\r\n",
        "\ufeffsep=,\nid,name,email\nada,Ada,ada@example.org\n",
        "id\tname\temail\nada\tAda\tada@example.org\n",
        '\nid;name;email;"a, b, c, d"\nada;Ada;ada@example.org;\n',
        "id\tname\temail\r\nada\tAda\tada@example.org\r\n".encode("utf-16"),
    ],
    ids=[
        "a byte order mark and CRLF",
        "quotes and blank lines",
        "semicolons",
        "columns in another order",
        "a line that says the delimiter",
        "the same after a byte order mark",
        "tabs",
        "a quoted title with the other delimiter",
        "a spreadsheet's Unicode text",
    ],
)
def test_spreadsheets_write_the_same_roster_in_several_ways(write, content: str | bytes) -> None:
    assert read_roster(write(content)) == [Learner("ada", "Ada", "ada@example.org")]


def test_a_quoted_name_keeps_its_comma_and_accents_are_of_one_form(write) -> None:
    (learner,) = read_roster(write('id,name,email\nada,"Zoe\u0308, A.",\n'))
    assert learner.name == "Zo\u00eb, A."


@pytest.mark.parametrize(
    "name",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0d28\u0d4d\u200d",
        "Dana \u200f\u05d3\u05e0\u05d4",
        "\ue000\u6797",
    ],
    ids=["non-joiner", "joiner", "direction mark", "private use"],
)
def test_names_are_what_people_write_with_the_joiners_that_belong_to_them(write, name: str) -> None:
    (learner,) = read_roster(write(f"id,name,email\nada,{name},\n"))
    assert learner.name == name


@pytest.mark.parametrize("name", ["A\u202eB", "A\u2067B", "A\u2028B", "A\U000e0041B"])
def test_what_would_turn_the_text_after_a_name_is_refused(write, name: str) -> None:
    assert problems(write(f"id,name,email\nada,{name},\n"))[0].endswith("has a control character")


def test_a_name_that_nobody_can_see_is_refused(write) -> None:
    assert "no character that can be seen" in problems(write("id,name,email\nada,\u200d\u200c,\n"))[0]


@pytest.mark.parametrize("identity", ["1.23457E+08", '"1,23457E+08"', "2E+10", "4711.0"])
def test_an_id_that_a_spreadsheet_made_a_number_of_is_refused_with_its_line(write, identity: str) -> None:
    (problem,) = problems(write(f"id,name,email\nada,Ada,\n{identity},Bob,\n"))
    assert problem.startswith("line 3: ") and "as a spreadsheet writes it" in problem


@pytest.mark.parametrize(
    ("rows", "line", "why"),
    [
        ("00123,Ada,\n456,Bob,\n", 3, "others have 5 digits"),
        ("20261234,Ada,\n1234567,Bob,\n20269999,Lin,\n", 3, "others have 8 digits"),
        ("s1,Ada,\n123,Bob,00123@example.org\n", 3, "the e-mail address begins with 00123"),
    ],
    ids=["another id has its zeros", "most ids are longer", "the address has the zeros"],
)
def test_an_id_that_lost_its_zeros_is_refused_with_its_line(write, rows: str, line: int, why: str) -> None:
    (problem,) = problems(write("id,name,email\n" + rows))
    assert problem.startswith(f"line {line}: ") and why in problem


def test_an_id_that_is_marked_as_text_is_taken_as_it_stands(write) -> None:
    path = write('id,name,email\n"=""00123""",Ada,\n"=""456""",Bob,\n')
    assert [learner.id for learner in read_roster(path)] == ["00123", "456"]


def test_short_numbers_are_ids_too(write) -> None:
    path = write("id,name,email\n" + "".join(f"{n},N{n},\n" for n in range(1, 151)))
    assert len(read_roster(path)) == 150


def test_lines_are_counted_from_the_top_of_the_file(write) -> None:
    assert problems(write("sep=;\nid;name;email\nada;;\n")) == ("line 3: the name is empty",)


def test_every_problem_is_named_with_its_line(write) -> None:
    path = write(
        "id,name,email\n"
        "ada,Ada,ada@example.org\n"
        "ADA,Again,\n"
        "../etc,Path,\n"
        ",Nobody,\n"
        "lin,,lin@example.org\n"
        "kim,Kim,not an address\n"
        "bob,Bob\x07,\n"
        "eve,Eve,Ada@example.org\n"
    )
    assert problems(path) == (
        "line 3: the id 'ADA' is also on line 2",
        "line 4: the id '../etc' has other characters than letters, digits and . _ @ + -",
        "line 5: the id is empty",
        "line 6: the name is empty",
        "line 7: 'not an address' is not an e-mail address",
        "line 8: the name 'Bob\\x07' has a control character",
        "line 9: the e-mail address 'Ada@example.org' is also on line 2",
    )


def test_a_line_is_that_of_the_file_also_after_a_name_of_two_lines(write) -> None:
    path = write('id,name,email\nada,"Two\nlines",\nb d,B,\n')
    assert [problem.partition(":")[0] for problem in problems(path)] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("id,name,email\n", "no learner under the header"),
        ("id,mail\nada,x\n", "no column name, email (it has: id, mail)"),
        ("ada,Ada,ada@example.org\n", "no column id, name, email"),
        (b"id,name,email\nada,Ad\xe4,\n", "line 2: not UTF-8"),
        ("id,name,email\nada,A" + "x" * 200_000 + ",\n", "field larger than field limit"),
        ('id,name,email\nada,"Ada,\n', "line 2: not CSV from here on"),
    ],
)
def test_a_file_that_is_no_roster_says_why(write, content: str | bytes, words: str) -> None:
    assert words in " ".join(problems(write(content)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"there is no roster at .*absent\.csv"):
        read_roster(tmp_path / "absent.csv")


def test_ten_thousand_rows_are_read_and_get_names_of_their_own(write) -> None:
    rows = "".join(f"{n:05}@students.example.org,Student {n},{n}@example.org\n" for n in range(10_000))
    learners = read_roster(write("id,name,email\n" + rows))
    assert len({suffix_of(learner.id) for learner in learners}) == 10_000


def test_ten_thousand_wrong_rows_are_counted_and_the_first_shown(write) -> None:
    path = write("id,name,email\n" + "a b,A,\n" * 10_000)
    with pytest.raises(RosterInvalid) as raised:
        read_roster(path)
    assert len(raised.value.problems) == 19_999  # each is wrong, and all but one a duplicate
    assert len(str(raised.value).splitlines()) == 52


def test_an_id_that_is_a_name_stands_for_itself() -> None:
    assert [suffix_of(identity) for identity in ("ada", "S01", "20261234")] == ["ada", "s01", "20261234"]


@pytest.mark.parametrize(
    "identity",
    ["a.lin@example.org", "A_B", "x" * 128, "ada-", "+1", "ada.", "a-very-long-identifier", "0" * 21],
)
def test_any_other_id_becomes_a_dns_name_of_twenty_characters_at_most(identity: str) -> None:
    suffix = suffix_of(identity)
    assert len(suffix) <= 20
    assert DNS_1123.fullmatch(suffix)


def test_ids_that_differ_only_in_what_a_name_cannot_hold_get_different_suffixes() -> None:
    assert len({suffix_of(identity) for identity in ("a.b", "a_b", "a+b", "a-b", "a@b")}) == 5


def test_an_id_cannot_be_chosen_so_that_it_gives_the_suffix_of_another(write) -> None:
    stolen = suffix_of("a.b")
    assert suffix_of(stolen) != stolen
    assert len(read_roster(write(f"id,name,email\na.b,A,\n{stolen},B,\n"))) == 2


def test_ids_that_give_one_suffix_are_a_problem(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.classroom.roster.suffix_of", lambda identity: "same")
    path = write("id,name,email\nada,A,\nlin,B,\n")
    assert problems(path) == ("line 3: the id 'lin' gives the same namespaces as that on line 2",)


@pytest.mark.parametrize("course_name", COURSE_NAMESPACES)
def test_no_suffix_hides_a_course_namespace(course_name: str) -> None:
    for identity in ("system", "apps", "workshop", "outside", "monitoring", "impostor", "probes"):
        scope = Scope(suffix_of(identity))
        assert scope.namespace(course_name) == f"{course_name}-{scope.suffix}"
