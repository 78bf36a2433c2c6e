"""Lab 09's first half without a cluster: its drafts, its pictures, its start, and what its page says of the readers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster, default_profile
from helpers.errors import LabError, StepMissing
from helpers.grading.changes import event, yaml_cells
from helpers.kubeyaml import filled
from helpers.labs.lab09_models import checks_staging, draw_staging, ground, mutants_staging, proof_staging
from helpers.labs.lab09_models.ground import NAMESPACE
from helpers.settings import REPOSITORY

GIVEN = REPOSITORY / "solutions" / "given" / "09"
CAR = proof_staging.NAMES["MODELCAR"]


def objects(text: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(filled(text, proof_staging.NAMES)) if item]


@pytest.mark.parametrize("cell", proof_staging.CELLS)
def test_draft_and_solution_are_the_same_objects_with_other_content(cell: str) -> None:
    def named(text: str) -> list[tuple[str, str]]:
        return [(item["kind"], item["metadata"]["name"]) for item in objects(text)]

    draft, solution = (GIVEN / f"{cell}.yaml").read_text(), yaml_cells("09")[cell]
    assert named(draft) == named(solution)
    assert objects(draft) != objects(solution)


def test_the_shell_s_own_number_arrives_as_it_is_written() -> None:
    """Kubernetes makes `$$` of four; a page's names must not be what does so first."""
    (car,) = objects(yaml_cells("09")["car_yaml"])
    assert "/proc/$$$$/root/models" in car["spec"]["template"]["spec"]["initContainers"][0]["command"][2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$MODELS:1 $MODELCAR", "a:1 b"),
        ("${MODELS}x $MODELSX $$ $1", "ax $MODELSX $$ $1"),
        ("$MODEL", "$MODEL"),
    ],
)
def test_names_are_replaced_whole_and_every_other_dollar_stays(text: str, said: str) -> None:
    assert filled(text, {"MODELS": "a", "MODELCAR": "b"}) == said
    assert filled(text, {}) == text


def test_a_draft_of_the_table_is_empty_in_every_place_that_the_check_reads() -> None:
    (draft,) = objects((GIVEN / "table_yaml.yaml").read_text())
    table = yaml.safe_load(draft["data"]["table.yaml"])
    assert set(table) == {*ground.WAYS, "choices"}
    assert checks_staging._is_untouched(table)
    assert set(table["choices"]) == set(checks_staging.CHOICES)


# The start


def listing(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, said: str) -> list[str]:
    """A cluster whose Job ends at once with these words."""
    made: list[str] = []
    apply = cluster.apply

    def applied(manifests: Any, **options: Any) -> Any:
        done = apply(manifests, **options)
        if isinstance(manifests, dict) and manifests.get("kind") == "Job":
            made.append(manifests["spec"]["template"]["spec"]["containers"][0]["image"])
            ended = {"name": "catalogue", "state": {"terminated": {"exitCode": 0, "message": said}}}
            labels = {"batch.kubernetes.io/job-name": manifests["metadata"]["name"]}
            cluster.add_pod("listing", NAMESPACE, labels=labels, status={"containerStatuses": [ended]})
        return done

    monkeypatch.setattr(cluster, "apply", applied)
    return made


def test_the_start_asks_the_modelcar_for_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    cluster.apply(ground._own_ground(cluster))
    said = '{"1": {"image": "r@sha256:1", "digest": "sha256:1", "model": "a"}}'
    made = listing(cluster, monkeypatch, said)
    assert ground.ask_the_car(cluster, CAR) == said
    assert made == [CAR]
    assert cluster.view().find("Job", "model-catalogue", NAMESPACE) is None


def test_an_image_that_lists_no_versions_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    cluster.apply(ground._own_ground(cluster))
    listing(cluster, monkeypatch, "cat: /catalogue.json: No such file or directory")
    with pytest.raises(LabError, match="lists no versions of the model"):
        ground.ask_the_car(cluster, CAR)


def test_a_cluster_without_a_modelcar_is_told_what_to_push() -> None:
    assert "modelcar" not in default_profile().images
    with pytest.raises(StepMissing, match="no modelcar"):
        ground._catalogue(FakeCluster(), lambda line: None)


def test_reset_leaves_what_the_start_puts_there_and_finds_nothing_a_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from helpers.stack import isvc

    monkeypatch.setattr(isvc, "clear", lambda cluster: [])
    cluster = FakeCluster()
    proof_staging.start(cluster)
    proof_staging.solution(cluster)
    done = ground.clear(cluster, lambda line: None, [("witness-by-car", NAMESPACE)])
    assert "Deployment by-car deleted" in done and "PersistentVolumeClaim models deleted" in done
    view = cluster.view()
    assert view.find("ConfigMap", "model-server", NAMESPACE) and view.find(
        "ConfigMap", "model-catalogue", NAMESPACE
    )
    assert ground.clear(cluster, lambda line: None, []) == []


# What is drawn


COSTS = {"by-copy": (0.0, 260.0), "by-claim": (260.0, 0.0), "by-car": (0.0, 0.0), "by-image": (0.0, 0.0)}


def test_the_picture_of_copies_grows_for_the_copy_alone() -> None:
    rows = draw_staging.copies_chart(COSTS).data
    five = rows[rows["pods"] == 5].set_index("way")["MiB"].to_dict()
    assert five == {"by-copy": 1300, "by-claim": 260, "by-car": 0, "by-image": 0}


@pytest.mark.parametrize("way", ground.WAYS)
def test_what_a_way_costs_is_what_was_measured(way: str) -> None:
    once, each = draw_staging.cost_of(way, mutants_staging.SEEN[way]["pods"]) or (-1, -1)
    assert (round(once), round(each)) == COSTS[way]
    assert draw_staging.cost_of(way, []) is None


def test_the_picture_of_versions_names_each_by_its_own_length() -> None:
    from helpers.labs.lab09_models.mutants_versions import SEEN

    rows = draw_staging.versions_chart(SEEN).data
    beside = rows[rows["phase"] == "while both run"].set_index("who")["answers"].to_dict()
    assert beside == {"version 1": 13, "version 2": 11}
    assert "My name is Lumen." in draw_staging.versions_words(SEEN)
    assert "**none** lost" in draw_staging.versions_words(SEEN)


def test_a_reader_s_newest_warning_is_told_and_not_that_it_is_tried_again() -> None:
    cluster = FakeCluster()
    proof_staging.start(cluster)
    event("reader-c-1", "Failed", "failed to ensure image subpath", NAMESPACE, when=1)(cluster)
    event("reader-c-1", "BackOff", "Back-off pulling image", NAMESPACE, when=9)(cluster)
    for item in cluster.view().events(NAMESPACE):
        cluster.put({**item.raw, "type": "Warning"})
    assert (
        draw_staging._newest_warning(cluster.view(), "reader-c-1") == "Failed: failed to ensure image subpath"
    )
