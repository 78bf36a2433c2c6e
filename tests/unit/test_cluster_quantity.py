"""Quantities: exact, and the same as the official client's."""

from __future__ import annotations

from decimal import Decimal

import pytest

from helpers.cluster import quantity, quantity_text

SPELLINGS = ["0", "1", "500m", "1.5", "2500m", "10", "24Gi", "1536Mi", "1e3", "1E2", "100k", "12M", "0.5Gi", "250u",
             "3n", "1Ti", "2P", "-1", "+2", ".5"]  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_quantity_is_what_the_official_client_says(text: str) -> None:
    from kubernetes.utils.quantity import parse_quantity

    assert quantity(text) == parse_quantity(text)


@pytest.mark.parametrize("text", ["", "Gi", "1GiB", "one", "1 Gi", "1.2.3", "1e", "--1", "1K"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("text", "binary", "canonical"),
    [
        ("10000m", False, "10"),
        ("2500m", False, "2500m"),
        ("1000", False, "1k"),
        ("1024Mi", True, "1Gi"),
        ("1.5Gi", True, "1536Mi"),
        ("0", True, "0"),
        ("0.0005", False, "500u"),
        ("1000", True, "1k"),
        ("2000", True, "2000"),
    ],
)
def test_the_canonical_spelling_is_the_api_server_s(text: str, binary: bool, canonical: str) -> None:
    assert quantity_text(quantity(text), binary=binary) == canonical
    assert quantity(canonical) == quantity(text)


def test_sums_are_exact() -> None:
    assert quantity("100m") * 3 == Decimal("0.3")
