"""One look for all charts: mid-tones and a quiet grid that stand out on white and on near-black."""

from __future__ import annotations

from typing import Any

# Dark enough for white words on them, light enough to be seen on near-black.
BLUE, TEAL, AMBER, GREY, RED, GREEN = "#3b7dd8", "#12938a", "#b9770e", "#6b7a90", "#d04848", "#25975a"
INK = "#7f8a99"
WIDTH = 620


def look(chart: Any) -> Any:
    """A finished chart in the course's look; apply it last, to the outermost chart."""
    return (
        chart.configure(background="transparent")
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            tickColor=INK,
            domainColor=INK,
            gridColor=INK,
            gridOpacity=0.2,
            labelFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(labelColor=INK, titleColor=INK, labelFontSize=12)
        .configure_title(color=INK, fontSize=13)
        .configure_view(strokeOpacity=0)
    )
