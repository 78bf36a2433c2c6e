"""The class's folder: private, atomic, and the same after it was written and read."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.classroom.folder import ClassBusy, ClassFolder, Member, NoSuchClass, NoSuchLearner
from helpers.classroom.roster import Learner
from helpers.errors import EnvironmentFault, LabError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    return tmp_path


def member(identity: str) -> Member:
    return Member.new(Learner(identity, identity.title(), ""))


@pytest.fixture
def saved() -> ClassFolder:
    folder = replace(ClassFolder.at(), cluster_uid="uid", context="admin", settings={"gpu": {"idle_min": 10}})
    return folder.with_members([member("ada"), member("a.lin@example.org")]).save()


def test_a_class_is_read_as_it_was_saved(saved: ClassFolder) -> None:
    assert ClassFolder.open() == saved
    assert saved.members[0].suffix == "ada"
    assert all(len(found.nonce) == 32 and int(found.nonce, 16) for found in saved.members)


def test_only_the_instructor_can_read_the_folder(saved: ClassFolder) -> None:
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((saved.path / "class.json").stat().st_mode) == 0o600


def test_a_class_that_was_never_created_says_how_to_create_it() -> None:
    with pytest.raises(NoSuchClass, match="no class named 'class'") as raised:
        ClassFolder.open()
    assert raised.value.next_command == "course class create --roster roster.csv"
    with pytest.raises(NoSuchClass) as raised:
        ClassFolder.open("autumn")
    assert raised.value.next_command == "course class create --roster roster.csv --name autumn"


def test_a_class_of_another_name_is_pointed_to() -> None:
    ClassFolder.at("autumn").save()
    with pytest.raises(NoSuchClass, match="there is: autumn"):
        ClassFolder.open()


@pytest.mark.parametrize("name", ["../up", "", "A", "a" * 41, "x/y", "-a"])
def test_a_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot name a class"):
        ClassFolder.open(name)


def test_members_are_found_by_id_in_any_case(saved: ClassFolder) -> None:
    assert saved.member("A.Lin@Example.org").learner.id == "a.lin@example.org"
    with pytest.raises(NoSuchLearner, match="no learner 'eve'"):
        saved.member("eve")


def test_a_member_keeps_place_and_nonce_when_replaced(saved: ClassFolder) -> None:
    ada = saved.member("ada")
    fresh = saved.with_members([member("eve"), replace(ada, removed=True)])
    assert [found.learner.id for found in fresh.members] == ["ada", "a.lin@example.org", "eve"]
    assert (fresh.member("ada").nonce, fresh.member("ada").removed) == (ada.nonce, True)
    assert [found.learner.id for found in fresh.active] == ["a.lin@example.org", "eve"]


def test_every_learner_has_files_of_their_own_also_without_a_suffix(saved: ClassFolder) -> None:
    own = [replace(found, suffix="", kubeconfig=saved.own_cluster(found)) for found in saved.members]
    folder = saved.with_members(own).save()
    assert ClassFolder.open() == folder
    places = {path for found in own for path in (folder.history_dir(found), folder.journals_dir(found))}
    assert len(places) == 4
    assert all(path.is_relative_to(folder.path) for path in places)


def test_a_folder_can_be_moved_with_the_clusters_in_it(saved: ClassFolder, home: Path) -> None:
    ada = saved.member("ada")
    saved.with_members([replace(ada, suffix="", kubeconfig=saved.own_cluster(ada))]).save()
    saved.path.rename(saved.path.with_name("moved"))
    assert ClassFolder.open("moved").member("ada").kubeconfig == home / "classes/moved/clusters/ada.yaml"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "course.class/v1"}', '{"schema": "course.class/v1", "cluster": 1}']
)
def test_a_damaged_file_is_named_and_kept(saved: ClassFolder, text: str) -> None:
    file = saved.path / "class.json"
    file.write_text(text)
    with pytest.raises(EnvironmentFault, match=r"class\.json cannot be read"):
        ClassFolder.open()
    assert file.read_text() == text


def test_two_commands_do_not_change_a_class_at_once(saved: ClassFolder) -> None:
    with saved.changing(), pytest.raises(ClassBusy, match="another command"), saved.changing():
        pass
    with saved.changing():
        pass


def test_a_class_of_ten_thousand_is_saved_and_searched(saved: ClassFolder) -> None:
    folder = saved.with_members(member(f"s{n}") for n in range(10_000)).save()
    again = ClassFolder.open()
    assert all(again.member(f"S{n}").suffix == f"s{n}" for n in range(10_000))
    assert len(again.members) == len(folder.members) == 10_002
