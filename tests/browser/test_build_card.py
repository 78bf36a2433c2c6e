"""A page that is open before its cluster: it shows the build, and connects by itself when the cluster answers."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from lab_page import REPOSITORY, LabPage, open_page, serve
from playwright.sync_api import expect

from helpers import building, settings
from helpers.building import BuildStep

pytestmark = [pytest.mark.browser, pytest.mark.live]


def test_the_page_shows_the_build_and_connects_by_itself(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CLUSTER", "behind")
    notebook = REPOSITORY / "labs" / "01_substrate.py"
    with (
        building.recording("behind", [("Building etcd", 30.0), ("Building CoreDNS", 600.0)]) as record,
        serve(notebook, tmp_path / "page") as url,
        open_page(url) as page,
    ):
        assert record is not None
        lab = LabPage(page)
        expect(lab.cell("is being built")).to_contain_text("min left")
        record.write(record.build.with_step(BuildStep("Building etcd", began=time.time(), took_s=30.0)))
        expect(lab.cell("is being built")).to_contain_text("✓ Building etcd")
        lab.predict("Which layer do you look at first?", "GPU substrate: something")
        target = settings.kubeconfig_path("behind")
        target.parent.mkdir(parents=True)
        shutil.copy(kubeconfig, target)
        record.write(replace(record.build, state="done"))
        expect(lab.cell("profile embedded")).to_contain_text("connected")
        expect(lab.cell("as you predicted")).to_be_visible()
        lab.picture("built-behind")
