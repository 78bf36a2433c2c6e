"""Notebooks as these tests run them: loaded from their file, executed without a browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def app_of(path: Path) -> Any:
    """The marimo app that a notebook's file defines."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app
