"""Signed results: whatever is changed, swapped or left out has a sentence of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.classroom.marking.marking import binding_of
from helpers.classroom.records.attest import Edited, KeyRing, NotSigned, OtherKey, PublicKey, verify_signature
from helpers.classroom.records.verify import Verification, verify
from helpers.cluster.fake import FakeCluster
from helpers.errors import LabError
from helpers.grading import grade
from helpers.grading.report import Report
from tests.unit.class_world import Room, do, graded, room, tiny_lab

Document = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Room:
    made = room(tmp_path / "class", "ada", "lin")
    do(made.of("ada"), "yes", moment="now")
    do(made.of("lin"), "no")
    return made


@pytest.fixture
def document(folder: Room) -> Document:
    """Ada's signed result, as it was kept."""
    return json.loads(json.dumps(dict(graded(folder)["ada"].attempt.document)))


def trusted(folder: Room) -> list[PublicKey]:
    return KeyRing(folder.path).public_keys()


def checked(folder: Room, document: Document, learner: str = "ada", **changes: Any) -> Verification:
    member = folder.member(learner)
    options = {
        "trusted": trusted(folder),
        "belongs_to": binding_of(folder, member),
        "cluster": lambda: folder.instructor_cluster(member),
        "labs": [tiny_lab()],
        "journals": folder.journals_dir(member),
    }
    return verify(document, **{**options, **changes})


def problems(found: Verification) -> str:
    return " ".join(item.text for item in found.problems)


def test_a_signed_report_is_a_report_and_names_its_instructor(folder: Room, document: Document) -> None:
    assert verify_signature(document, trusted(folder)) in trusted(folder)
    report = Report.from_json(json.dumps(document))
    assert report.earned == 4 and "class" in (report.attested_by or "")
    assert report.binding == binding_of(folder, folder.member("ada"))


def set_path(document: Document, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    holder: Any = document
    for name in parents:
        holder = holder[int(name) if name.isdigit() else name]
    holder[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("verdicts.0.earned", 4),
        ("verdicts.0.status", "PASS "),
        ("binding.nonce", "0" * 32),
        ("binding.learner", "lin"),
        ("cluster.uid", "another"),
        ("attested_by", "somebody"),
        ("graded_at", "2020-01-01T00:00:00+00:00"),
        ("signature.signed_at", "2020-01-01T00:00:00+00:00"),
        ("extra", "anything"),
    ],
)
def test_whatever_is_edited_after_signing_is_noticed(
    folder: Room, document: Document, path: str, value: Any
) -> None:
    set_path(document, path, value)
    with pytest.raises(Edited, match="changed after it was signed"):
        verify_signature(document, trusted(folder))


def test_order_and_spaces_do_not_matter(folder: Room, document: Document) -> None:
    text = json.dumps(dict(reversed(document.items())), indent=7)
    assert verify_signature(json.loads(text), trusted(folder))


@pytest.mark.parametrize("value", ["", "!!", "AAAA", "A" * 88])
def test_a_broken_signature_is_no_signature(folder: Room, document: Document, value: str) -> None:
    set_path(document, "signature.value", value)
    with pytest.raises((Edited, NotSigned)):
        verify_signature(document, trusted(folder))


def test_without_a_signature_it_is_a_claim_whatever_it_says(folder: Room, document: Document) -> None:
    del document["signature"]
    with pytest.raises(NotSigned, match=r"says that the instructor.*attested it.*claim"):
        verify_signature(document, trusted(folder))
    document["attested_by"] = None
    with pytest.raises(NotSigned, match=r"own report.*claim"):
        verify_signature(document, trusted(folder))


def test_another_key_is_named(folder: Room, document: Document, tmp_path: Path) -> None:
    stranger = KeyRing(tmp_path / "elsewhere")
    forged = stranger.sign(document)
    with pytest.raises(OtherKey, match=stranger.current().id):
        verify_signature(forged, trusted(folder))
    with pytest.raises(OtherKey, match="trusted: none"):
        verify_signature(document, [])


def test_the_private_key_is_private_and_never_in_what_is_signed(folder: Room, document: Document) -> None:
    path = folder.path / "keys" / "signing.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(path.read_text())["seed"] not in json.dumps(document)


def test_after_a_rotation_old_results_verify_and_new_ones_have_the_new_key(
    folder: Room, document: Document
) -> None:
    ring = KeyRing(folder.path)
    old, new = ring.current(), ring.rotate()
    assert old.id != new.id and ring.current() == new
    assert verify_signature(document, trusted(folder)).id == old.id
    retired, current = ring.public_keys()
    assert retired.retired_at and not current.retired_at
    assert ring.sign(document)["signature"]["key"] == new.id


def test_a_public_key_is_read_from_text_or_file_and_nothing_else(tmp_path: Path) -> None:
    key = KeyRing(tmp_path).current()
    assert PublicKey.given(str(key)).raw == key.raw
    (tmp_path / "class.pub").write_text(f"# the class's key\n{key}\n")
    assert PublicKey.given(str(tmp_path / "class.pub")).raw == key.raw
    for wrong in ("ed25519:AAAA", "ed25519:!", str(tmp_path / "nothing"), str(tmp_path / "keys/public.json")):
        with pytest.raises(LabError):
            PublicKey.given(wrong)


def test_an_attested_report_that_the_cluster_confirms(folder: Room, document: Document) -> None:
    found = checked(folder, document)
    assert (found.exit_code, found.agreeing, problems(found)) == (0, 3, "")


def test_a_cluster_that_changed_is_shown_verdict_by_verdict(folder: Room, document: Document) -> None:
    do(folder.of("ada"), "no", moment="later")
    found = checked(folder, document)
    assert found.exit_code == 1 and found.agreeing == 2
    assert "right: it says PASS, the cluster says FAIL: no." in problems(found)
    assert "resourceVersion" in " ".join(item.text for item in found.findings if not item.is_problem)


def test_an_object_that_was_replaced_or_is_gone_is_shown(folder: Room, document: Document) -> None:
    cluster = folder.of("ada")
    cluster.delete("ConfigMap", "work", "llm-apps")
    gone = checked(folder, document)
    assert "is gone" in str(gone.findings) and gone.exit_code == 1
    do(cluster, "yes", moment="now")
    replaced = checked(folder, document)
    assert "was replaced since: uid" in str(replaced.findings) and replaced.exit_code == 0


def test_a_learners_own_report_is_a_claim_even_where_it_is_true(folder: Room) -> None:
    own = grade([tiny_lab()], folder.of("ada"), journals=folder.path)
    found = checked(folder, own.to_dict())
    assert found.exit_code == 1 and found.agreeing == 3 and found.signer is None
    assert problems(found) == "It is a learner's own report, which nobody signed: it is a claim."


def test_a_neighbours_signed_result_is_not_mine(folder: Room, document: Document) -> None:
    found = checked(folder, document, "lin")
    assert "It is the result of ada, not of lin." in problems(found) and found.exit_code == 1


def test_another_nonce_is_told(folder: Room, document: Document) -> None:
    document["binding"]["nonce"] = "f" * 32
    resigned = KeyRing(folder.path).sign(document)
    assert "bound to another nonce than ada has" in problems(checked(folder, resigned))


def test_another_cluster_is_told_and_not_compared(folder: Room, document: Document) -> None:
    found = checked(folder, document, cluster=FakeCluster)
    assert "It was graded on cluster" in problems(found)
    assert found.recomputed is None and found.exit_code == 1


def test_a_cluster_that_does_not_answer_is_exit_code_2(folder: Room, document: Document) -> None:
    folder.shared.go_down()
    found = checked(folder, document)
    assert found.exit_code == 2 and found.signer is not None
    assert "could not be recomputed" in problems(found)


def leave_out(document: Document) -> None:
    document["verdicts"].pop(1)


def inflate(document: Document) -> None:
    document["verdicts"][0] |= {"earned": 40, "points": 40}


def lie_in_the_summary(document: Document) -> None:
    document["summary"]["earned"] = 100


def narrow(document: Document) -> None:
    document["only"] = ["there"]


def invent(document: Document) -> None:
    document["verdicts"].append({**document["verdicts"][0], "check": "invented"})


def foresee(document: Document) -> None:
    document["verdicts"][0]["evidence"][0]["resource_version"] = "999999"


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (leave_out, "right: it leaves this check out"),
        (inflate, "there: it says 40 of 40 points"),
        (lie_in_the_summary, "summary does not add up"),
        (narrow, "a run of some checks only (there)"),
        (invent, "invented: this course has no such check"),
        (foresee, "never had resourceVersion 999999"),
    ],
)
def test_a_forged_claim_is_seen_through(
    folder: Room, document: Document, lie: Callable[[Document], None], words: str
) -> None:
    lie(document)
    assert words in problems(checked(folder, document))


def test_a_hidden_check_needs_its_package_to_be_recomputed(folder: Room, document: Document) -> None:
    document["verdicts"].append({**document["verdicts"][0], "check": "hidden.one", "hidden": True})
    document["summary"] = {"earned": 5, "possible": 5, "counts": {"PASS": 4}}
    found = checked(folder, KeyRing(folder.path).sign(document))
    assert "hidden.one: a hidden check" in problems(found) and found.exit_code == 2


def test_the_signature_alone_asks_no_cluster(folder: Room, document: Document) -> None:
    folder.shared.go_down()
    found = checked(folder, document, cluster=None)
    assert found.exit_code == 0 and found.recomputed is None
