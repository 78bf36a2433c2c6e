"""Every chart of the labs: as wide as its column, nothing cut, words that can be read on white and on near-black."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.chaos.journal import Record
from helpers.labs.lab01_substrate import draw_gpu
from helpers.labs.lab02_inference import draw as draw_inference
from helpers.labs.lab03_memory import draw as draw_memory
from helpers.labs.lab03_memory import sizing
from helpers.labs.lab05_chaos import draw as draw_chaos
from helpers.labs.lab06_orchestration import draw as draw_orchestration
from helpers.labs.lab06_orchestration.mutants import SEEN
from helpers.labs.lab07_gates import draw_pictures
from helpers.labs.lab08_scale import draw_pictures as of_scale
from helpers.notebook.charts import LEAST_WIDTH, WORDS, look
from helpers.notebook.session import LabSession
from helpers.settings import REPOSITORY
from helpers.stack import memory, serving
from helpers.stack.load import LoadResult, Outcome, QueueSample
from tests.unit.test_chaos_page import sample

POLICY = (
    "kind: ConfigMap\napiVersion: v1\nmetadata: {name: vllm-model-config}\n"
    'data: {MAX_MODEL_LEN: "4096", MAX_NUM_SEQS: "4"}'
)
LEVEL = draw_inference.Level(
    4,
    LoadResult((Outcome(0, 0.0, 1.0, None, None),), 1.0),
    (QueueSample(0.0, 1, 0, 0.1), QueueSample(1.0, 4, 2, 0.4)),
)
START = [
    serving.Moment(at_s, "vllm-abc-x1", "Running", "running", False, ready, 0)
    for at_s, ready in ((0.0, False), (9.0, True))
]
REPLACED = [memory.Moment(at_s, "new", "Running", True, 1, "200") for at_s in (0.0, 3.0)]
EXPERIMENT = Record(
    (
        {"kind": "start"},
        {"kind": "inject", "t": 1.0},
        sample(0, "a"),
        sample(9, "a"),
        {"kind": "healed", "t": 9.0},
    )
)
HERD = [("without jitter", 0.0, 1.0, 0.0), ("with jitter", 1.0, 1.0, 3.0)]
SPENT = {
    "a good day": {"load": 5.0, "retrieve": 40.0, "generate": 6000.0},
    "Qdrant silent": {"retrieve": 12_000.0},
}
SCORE = draw_pictures.Score("retrieval_hit", 0.93, 0.25, 30, 0.85, None, 0.95, 0.08, "good")
MOMENTS = [
    draw_pictures.Moment(0, 25, 24.0, release="prompt-cut"),
    draw_pictures.Moment(60, 0, verdict="quality", release="prompt-cut"),
    draw_pictures.Moment(70, 25, release="good"),
    draw_pictures.Moment(130, 100, verdict="pass", release="good"),
]
SPANS = [
    draw_pictures.Bar("1", "", "chat", 0, 950, "AGENT"),
    draw_pictures.Bar("2", "1", "retrieve", 5, 50, "RETRIEVER"),
    draw_pictures.Bar("3", "1", "generate", 60, 900, "LLM", is_error=True),
]
LEVELS = [of_scale.Level(1, 28, 0.1), of_scale.Level(4, 103, 0.3), of_scale.Level(16, 107, 2.8, 12)]
CLOCK = [
    of_scale.Row(
        "waiting", (of_scale.Line("in the queue (lag)", ((0, 0), (30, 20))), of_scale.Line("pending", ()))
    ),
    of_scale.Row(
        "s to first token", (of_scale.Line("95th percentile", ((0, 0.5),)),), is_count=False, bound=2
    ),
]
MODULES = (draw_gpu, draw_inference, draw_memory, draw_chaos, draw_orchestration, draw_pictures, of_scale)
DRAWN = {
    "lab 01: what idle cards cost": lambda: draw_gpu.idle_cost_chart(2.5, 4),
    "lab 02: a start": lambda: draw_inference.timeline_chart(START),
    "lab 02: the KV cache": lambda: draw_inference.kv_picture(LabSession("02"), POLICY),
    "lab 02: load": lambda: draw_inference.level_charts([LEVEL]),
    "lab 02: the queue": lambda: draw_inference.queue_chart(LEVEL),
    "lab 03: the plan": lambda: draw_memory.sizing_picture(sizing.Collection(1_000_000, 384), "16Gi"),
    "lab 03: a replacement": lambda: draw_memory.timeline(REPLACED),
    "lab 05: an experiment": lambda: draw_chaos.chart(EXPERIMENT),
    "lab 05: the herds": lambda: draw_chaos.herd_picture(*herd()),
    "lab 06: a budget": lambda: draw_orchestration.budget_bar(SPENT, 12_000),
    "lab 06: a circuit": lambda: draw_orchestration.circuit_line(SEEN["pressure"]),
    "lab 06: a crowd": lambda: draw_orchestration.crowd_bars(SEEN["pressure"]),
    "lab 06: tokens": lambda: draw_orchestration.spent_bars(tokens()),
    "lab 07: scores": lambda: draw_pictures.scores_chart(
        [SCORE], [("retrieval_hit, good", "no-retrieval", 0.0)]
    ),
    "lab 07: the judge's share": lambda: draw_pictures.judge_chart(0.55, 0.5, 0.1, -0.2, 0.4)[0],
    "lab 07: the judge's kappa": lambda: draw_pictures.judge_chart(0.55, 0.5, 0.1, -0.2, 0.4)[1],
    "lab 07: releases": lambda: draw_pictures.weight_chart(MOMENTS),
    "lab 08: the knee": lambda: of_scale.knee_charts(LEVELS)[0],
    "lab 08: who waits at the knee": lambda: of_scale.knee_charts(LEVELS)[2],
    "lab 08: one clock": lambda: of_scale.clock_charts(CLOCK, 60),
    "lab 08: outcomes": lambda: of_scale.outcome_bars({"done": 60, "dead": 2}, title="jobs", good=("done",)),
    "lab 07: a trace": lambda: draw_pictures.span_chart(SPANS),
}


def herd() -> tuple[Any, ...]:
    import altair as alt
    import pandas as pd

    lines = pd.DataFrame(HERD, columns=["herd", "t", "running", "waiting"])
    return lines, lines[["herd", "t"]], alt.Scale(domain=[0, 1], nice=False)


def tokens() -> Any:
    import pandas as pd

    rows = [("docs", 10.0, 54_000, 60_000), ("trial", 100.0, 0, 600)]
    return pd.DataFrame(rows, columns=["tenant", "spent", "left", "limit"])


@pytest.fixture(params=DRAWN)
def specs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the finished charts of one panel tell Vega-Lite."""
    finished: list[Any] = []

    def recorded(chart: Any) -> Any:
        finished.append(look(chart))
        return finished[-1]

    for module in MODULES:
        monkeypatch.setattr(module, "look", recorded)
    DRAWN[request.param]()
    assert finished, "a chart that is shown must have been given the course's look"
    return [chart.to_dict() for chart in finished]


def layers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield spec
    for inner in spec.get("layer", ()):
        yield from layers(inner)


def contrast(one: str, other: str) -> float:
    """How far two colours are apart, from 1 to 21, as WCAG 2 counts it."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_chart_is_as_wide_as_its_column(specs: list[dict[str, Any]]) -> None:
    for spec in specs:
        assert spec["width"] == "container"
        # Vega-Lite lets only single and layered charts follow their container.
        assert not {"hconcat", "vconcat", "concat", "facet", "repeat"} & spec.keys()
        assert all("width" not in layer for layer in layers(spec) if layer is not spec)


def test_labels_have_the_themes_colour_and_words_one_that_can_be_read_on_both(
    specs: list[dict[str, Any]],
) -> None:
    for spec in specs:
        config = spec["config"]
        for part in ("axis", "legend", "title"):
            assert not {"labelColor", "titleColor", "color"} & config.get(part, {}).keys()
        for layer in layers(spec):
            mark = layer.get("mark", {})
            if mark.get("type") == "text":
                assert mark["color"] in (WORDS, "white")
    for ground in ("#ffffff", "#181c1a"):
        assert contrast(WORDS, ground) >= 4


def test_no_label_is_cut(specs: list[dict[str, Any]]) -> None:
    for spec in specs:
        limits = [spec["config"]["axis"]["labelLimit"], spec["config"]["legend"]["labelLimit"]]
        limits += [int(found) for found in re.findall(r"'labelLimit': (\d+)", str(spec))]
        labels = [value for rows in spec["datasets"].values() for row in rows for value in row.values()]
        longest = max((len(value) for value in labels if isinstance(value, str)), default=0)
        assert min(limits) >= 260 and longest * draw_inference.LETTER_PX <= 320
        for layer in layers(spec):
            title = layer.get("title", "")
            for line in [title] if isinstance(title, str) else title:
                assert len(line) * 7.5 <= LEAST_WIDTH / (
                    2 if len(specs) > 1 and isinstance(title, list) else 1
                )


def test_words_beside_a_point_go_towards_the_middle() -> None:
    spec = draw_chaos.chart(EXPERIMENT).to_dict()
    words = [layer for layer in layers(spec) if layer.get("mark", {}).get("type") == "text"]
    sides = {
        layer["mark"]["align"]: {row["what"] for row in spec["datasets"][layer["data"]["name"]]}
        for layer in words
    }
    assert "healed" in sides["right"] and "healed" not in sides["left"] and sides["left"]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.split(".")[2])
def test_no_chart_has_a_width_of_its_own_or_is_put_beside_another_by_vega(module: Any) -> None:
    text = Path(module.__file__).read_text()
    assert not re.search(r"properties\([^)]*width=", text) and not re.search(r"alt\.[hv]?concat\(", text)


def test_all_modules_that_draw_charts_are_in_this_file() -> None:
    drawing = {
        path for path in (REPOSITORY / "helpers" / "labs").glob("*/*.py") if "alt.Chart(" in path.read_text()
    }
    assert drawing == {Path(str(module.__file__)) for module in MODULES}
