"""How one object is laid over another: as the API server does it, and as lab 02 does it with a fragment."""

from __future__ import annotations

from copy import deepcopy

import pytest

from helpers.cluster.patches import merge


def test_a_fragment_is_laid_over_by_name_and_null_removes() -> None:
    base = {
        "spec": {
            "strategy": {"type": "Recreate"},
            "containers": [{"name": "a", "image": "one", "args": ["x", "y"]}, {"name": "b", "image": "two"}],
            "grace": 60,
        }
    }
    fragment = {
        "spec": {"grace": None, "containers": [{"name": "a", "args": ["z"]}, {"name": "c", "image": "three"}]}
    }
    assert merge(deepcopy(base), fragment, keyed=True) == {
        "spec": {
            "strategy": {"type": "Recreate"},
            "containers": [
                {"name": "a", "image": "one", "args": ["z"]},
                {"name": "b", "image": "two"},
                {"name": "c", "image": "three"},
            ],
        }
    }
    assert base["spec"]["grace"] == 60


def test_what_was_there_keeps_its_place_and_what_is_new_follows() -> None:
    before = [{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]
    patch = [{"name": "c", "image": "three"}, {"name": "b", "image": "four"}]
    assert [item["name"] for item in merge(before, patch, keyed=True)] == ["a", "b", "c"]


@pytest.mark.parametrize("name", [["a"], {"x": 1}, None])
def test_a_list_whose_names_are_no_names_replaces_the_one_before(name: object) -> None:
    assert merge([{"name": "a"}], [{"name": name}], keyed=True) == [{"name": name}]


def test_without_keys_a_list_replaces_the_one_before() -> None:
    assert merge([{"name": "a"}], [{"name": "b"}], keyed=False) == [{"name": "b"}]


def test_what_two_items_of_a_list_have_alike_is_no_key_of_theirs() -> None:
    """Two triggers of one type: such a list is replaced as a whole, as the API server does it."""
    before = [{"type": "prometheus", "query": "a"}, {"type": "prometheus", "query": "b"}]
    patch = [{"type": "prometheus", "query": "a"}, {"type": "prometheus", "query": "c"}]
    assert merge(deepcopy(before), deepcopy(patch), keyed=True) == patch
