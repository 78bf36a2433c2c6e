"""The roster: who is in the class, from a CSV file as schools and spreadsheets write it.

Every problem is reported at once with its line: a roster that is half right is not used at all, so
that nobody is left out unnoticed.
"""

from __future__ import annotations

import base64
import codecs
import csv
import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.cluster.scope import COURSE_NAMESPACES, COURSE_PREFIX
from helpers.errors import LabError
from helpers.grading.export.delimited import delimited, is_shortened

COLUMNS = ("id", "name", "email")
ID_LENGTH = 128
NAME_LENGTH = 200
SUFFIX_LENGTH = 20
PROBLEMS_SHOWN = 50

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_DIGEST_LENGTH = 8
# `="00123"` is how a spreadsheet is told that digits are text.
_AS_TEXT = re.compile(r'="(?P<id>[^"]*)"')
# From so many digits on, a number that is shorter than most others has lost zeros; 7 beside 12 has not.
_PADDED_LENGTH = 6
# Characters that no name is made of: controls, halves of characters, ends of lines, and what turns the
# direction of the text that follows. Joiners and direction marks are part of how names are written.
_NO_NAME = ("Cc", "Cs", "Zl", "Zp", "Cf")
_WITHIN_NAMES = frozenset("\u200c\u200d\u200e\u200f\u061c\u00ad")
# Already a name that Kubernetes takes, and not one that `suffix_of` makes up for another id.
_PLAIN = re.compile(
    rf"(?!.*-[a-z2-7]{{{_DIGEST_LENGTH}}}$)[a-z0-9]([a-z0-9-]{{0,{SUFFIX_LENGTH - 2}}}[a-z0-9])?"
)
# `llm-apps` with the suffix `apps` would be taken for a name that is mapped already.
_RESERVED = {name.removeprefix(COURSE_PREFIX) for name in COURSE_NAMESPACES}


class RosterInvalid(LabError):
    """The roster cannot be used as it is: `problems` has every reason, with its line."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[:PROBLEMS_SHOWN]]
        hidden = len(self.problems) - len(shown)
        if hidden:
            shown.append(f"  and {hidden} more")
        count = len(self.problems)
        heading = f"{path} has {count} problem{'s' if count != 1 else ''}; nothing was done:"
        super().__init__("\n".join([heading, *shown]), next_command=f"correct {path}, then run this again")


@dataclass(frozen=True)
class Learner:
    """One row of the roster; the id is unique in a class, upper and lower case being the same."""

    id: str
    name: str
    email: str


@dataclass(frozen=True)
class _Row:
    """A learner and the line they are on; `is_text` says that the id was marked as text."""

    line: int
    learner: Learner
    is_text: bool = False


def read_roster(path: Path) -> list[Learner]:
    """The learners in the order of the file: columns id, name, email, in any order; more are ignored.

    Raises:
        RosterInvalid: with every problem: duplicates, bad characters, missing columns, empty fields.
    """
    rows = _table(path)
    header = next(rows, None)
    if header is None:
        raise RosterInvalid(path, ["the file is empty: its first line must be id,name,email"])
    line, titles = header
    places = {title.strip().lower(): index for index, title in reversed(list(enumerate(titles)))}
    absent = [column for column in COLUMNS if column not in places]
    if absent:
        have = ", ".join(title.strip() for title in titles if title.strip()) or "nothing"
        raise RosterInvalid(path, [f"line {line}: no column {', '.join(absent)} (it has: {have})"])
    found = [_row(line, fields, places) for line, fields in rows]
    problems = (
        [*_row_problems(found), *_lost_zeros(found), *_clashes(found)]
        if found
        else ["there is no learner under the header"]
    )
    if problems:
        raise RosterInvalid(path, sorted(problems, key=_line_of))
    return [row.learner for row in found]


def suffix_of(identity: str) -> str:
    """A DNS-1123 name of at most 20 characters for an id; the same id always gives the same name.

    An id that is such a name already stands for itself; any other is shortened and told apart by 40
    bits of its SHA-256.
    """
    lower = identity.lower()
    if _PLAIN.fullmatch(lower) and lower not in _RESERVED:
        return lower
    digest = base64.b32encode(hashlib.sha256(lower.encode()).digest()).decode().lower()[:_DIGEST_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "-", lower)[: SUFFIX_LENGTH - _DIGEST_LENGTH - 1].strip("-")
    return f"{readable}-{digest}"


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line it begins on."""
    file = delimited(_text(path))
    reader = csv.reader(io.StringIO(file.body, newline=""), delimiter=file.delimiter, strict=True)
    before = file.first_line - 1
    line = file.first_line
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield line, fields
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise RosterInvalid(path, [f"line {line}: not CSV from here on: {error}"]) from error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        wide = content.startswith(
            (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        )  # a spreadsheet's "Unicode text"
        return content.decode("utf-16" if wide else "utf-8-sig")
    except FileNotFoundError as error:
        raise LabError(
            f"there is no roster at {path}", next_command="course class create --roster FILE"
        ) from error
    except OSError as error:
        raise LabError(f"the roster {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RosterInvalid(path, [f"line {line}: not UTF-8: save the file as CSV UTF-8"]) from error


def _row(line: int, fields: list[str], places: dict[str, int]) -> _Row:
    def field(column: str) -> str:
        index = places[column]
        return unicodedata.normalize("NFC", fields[index].strip()) if index < len(fields) else ""

    marked = _AS_TEXT.fullmatch(field("id"))
    identity = marked["id"].strip() if marked else field("id")
    return _Row(line, Learner(identity, field("name"), field("email")), is_text=marked is not None)


def _row_problems(rows: list[_Row]) -> Iterator[str]:
    for row in rows:
        for problem in _problems_of(row.learner):
            yield f"line {row.line}: {problem}"


def _problems_of(learner: Learner) -> Iterator[str]:
    if not learner.id:
        yield "the id is empty"
    elif is_shortened(learner.id):
        yield f"the id {learner.id!r} is a number as a spreadsheet writes it: format the column as text"
    elif not _ID.fullmatch(learner.id):
        yield f"the id {learner.id!r} has other characters than letters, digits and . _ @ + -"
    elif len(learner.id) > ID_LENGTH:
        yield f"the id has {len(learner.id)} characters; {ID_LENGTH} is the most"
    if not learner.name:
        yield "the name is empty"
    elif not all(map(_belongs_to_a_name, learner.name)):
        yield f"the name {learner.name!r} has a control character"
    elif all(unicodedata.category(character) == "Cf" for character in learner.name):
        yield f"the name {learner.name!r} has no character that can be seen"
    elif len(learner.name) > NAME_LENGTH:
        yield f"the name has {len(learner.name)} characters; {NAME_LENGTH} is the most"
    if learner.email and not (_EMAIL.fullmatch(learner.email) and learner.email.isprintable()):
        yield f"{learner.email!r} is not an e-mail address"


def _belongs_to_a_name(character: str) -> bool:
    return character in _WITHIN_NAMES or unicodedata.category(character) not in _NO_NAME


def _lost_zeros(rows: list[_Row]) -> Iterator[str]:
    """Ids that a spreadsheet made shorter, because it takes `00123` for the number 123.

    Three things give them away: another id begins with a zero and is longer, most ids have more
    digits, or the learner's own e-mail address has the zeros still.
    """
    lengths = Counter(len(row.learner.id) for row in rows if row.learner.id.isdecimal())
    padded = [row.learner.id for row in rows if row.learner.id.isdecimal() and row.learner.id[0] == "0"]
    longest = max(lengths, default=0)
    is_usual = longest >= _PADDED_LENGTH and 2 * lengths[longest] >= lengths.total()
    full = longest if is_usual else max(map(len, padded), default=0)
    for row in rows:
        identity = row.learner.id
        if row.is_text or not identity.isdecimal():
            continue
        local = row.learner.email.partition("@")[0]
        if local.isdecimal() and local != identity and local.lstrip("0") == identity:
            yield f"line {row.line}: {_lost(identity, f'the e-mail address begins with {local}')}"
        elif len(identity) < full:
            yield f"line {row.line}: {_lost(identity, f'others have {full} digits')}"


def _lost(identity: str, why: str) -> str:
    return (
        f"the id {identity!r} has lost its leading zeros in a spreadsheet, it seems: {why}. "
        f'Write it in full; if it is right, write it as ="{identity}"'
    )


def _clashes(rows: list[_Row]) -> Iterator[str]:
    """Rows that speak of the same learner, or would share namespaces."""
    ids: dict[str, int] = {}
    emails: dict[str, int] = {}
    suffixes: dict[str, int] = {}
    for row in rows:
        learner = row.learner
        first = ids.setdefault(learner.id.lower(), row.line)
        if learner.id and first != row.line:
            yield f"line {row.line}: the id {learner.id!r} is also on line {first}"
            continue
        first = emails.setdefault(learner.email.lower(), row.line)
        if learner.email and first != row.line:
            yield f"line {row.line}: the e-mail address {learner.email!r} is also on line {first}"
        first = suffixes.setdefault(suffix_of(learner.id), row.line)
        if learner.id and first != row.line:
            yield f"line {row.line}: the id {learner.id!r} gives the same namespaces as that on line {first}"


def _line_of(problem: str) -> int:
    match = re.match(r"line (\d+)", problem)
    return int(match[1]) if match else 0
