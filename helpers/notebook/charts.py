"""One look for all charts: as wide as their column, in mid-tones that stand out on white and on near-black.

Labels and titles take the theme's own colour, dark on white and light on near-black. Words inside a chart
cannot: they have the one blue that stands out as much on the one as on the other. Charts that stand beside or
below each other are charts of their own: Vega-Lite lets only those follow the width of their column.
"""

from __future__ import annotations

from typing import Any

# Dark enough for white words on them, light enough to be seen on near-black.
BLUE, TEAL, AMBER, GREY, RED, GREEN = "#3b7dd8", "#12938a", "#b9770e", "#6b7a90", "#d04848", "#25975a"
# For lines that are no words.
INK = "#7f8a99"
# Words inside a chart, set bold: as far from white as from near-black.
WORDS = "#3f7fd4"
# The least width of a plot that is counted on, in pixels: what fits there fits everywhere.
LEAST_WIDTH = 560
# Room for the labels of a y axis: one for charts that stand below each other over one x axis.
ONE_MARGIN_PX = 48
_LONGEST_LABEL_PX = 320


def words_beside(frame: Any, x: str, middle: float, *, dx: int, **mark: Any) -> list[Any]:
    """Words beside points or lines, as two marks: each towards the middle of the picture, so that none is cut.

    Args:
        frame: a row for each point; the caller encodes where it is and what is said.
        x: its column along the axis; what lies beyond `middle` has its words to the left.
        dx: how far the words begin from their point, in pixels.
    """
    import altair as alt

    is_early = frame[x] <= middle
    mark |= {"color": WORDS, "fontWeight": "bold"}
    return [
        alt.Chart(frame[is_early]).mark_text(align="left", dx=dx, **mark),
        alt.Chart(frame[~is_early]).mark_text(align="right", dx=-dx, **mark),
    ]


def look(chart: Any) -> Any:
    """A finished chart in the course's look; apply it last, to a chart or to layers."""
    return (
        chart.properties(width="container")
        .configure(background="transparent")
        .configure_axis(
            tickColor=INK,
            domainColor=INK,
            gridColor=INK,
            gridOpacity=0.2,
            labelFontSize=12,
            labelLimit=_LONGEST_LABEL_PX,
            titleFontWeight="normal",
        )
        .configure_legend(labelFontSize=12, labelLimit=_LONGEST_LABEL_PX)
        .configure_title(fontSize=13)
        .configure_view(strokeOpacity=0)
    )
