"""The picture every lab opens with: four layers, the question each answers, the failures it owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import course, inline, word


@dataclass(frozen=True)
class Layer:
    """One layer of the stack: what it answers, what lives in it, and which symptoms are its own."""

    key: str
    title: str
    asks: str
    parts: tuple[str, ...]
    owns: str


LAYERS = {
    layer.key: layer
    for layer in (
        Layer(
            "orchestration",
            "Orchestration",
            "Which calls make one answer, and what if one of them fails?",
            ("app Deployment", "retrieval, then prompt", "retries", "session state"),
            "a retry storm, a lost session, an ungrounded answer",
        ),
        Layer(
            "memory",
            "Vector memory",
            "Does retrieval return the right stored context?",
            ("Qdrant StatefulSet", "PVC", "index", "/readyz"),
            "an index still loading, a full disk, a missing collection",
        ),
        Layer(
            "inference",
            "Inference",
            "Can the model answer a request now?",
            ("vLLM Deployment", "weights", "KV cache", "probes"),
            "a model still loading, queueing, a wrong model name",
        ),
        Layer(
            "substrate",
            "GPU substrate",
            "May this namespace have an accelerator, and which node can give one?",
            ("namespaces", "ResourceQuota", "device plugin", "node labels", "taints"),
            "refused at admission, Pending, a device gone or held by an idle pod",
        ),
    )
}


def layer_picture(focus: str | None = None, states: Mapping[str, tuple[str, str]] | None = None) -> mo.Html:
    """The four layers, the focused one in its colour.

    Args:
        focus: the key of the layer this lab is about.
        states: for a layer, a status word and the text to show for it, such as ("PASS", "ready").
    """

    def box(key: str) -> Markup:
        return _box(LAYERS[key], focused=key == focus, state=(states or {}).get(key))

    return course(
        Markup(
            '<div class="stack">'
            '<div class="namespace"><div class="tag">namespace <code>llm-apps</code></div>{orchestration}</div>'
            '<div class="arrow">↓ Service DNS, through a NetworkPolicy ↓</div>'
            '<div class="namespace"><div class="tag">namespace <code>llm-system</code></div>'
            '<div class="two">{memory}{inference}</div></div>'
            '<div class="arrow">↓ admitted by quota, placed by the scheduler ↓</div>'
            "{substrate}</div>"
        ).format(**{key: box(key) for key in LAYERS})
    )


def _box(layer: Layer, *, focused: bool, state: tuple[str, str] | None) -> Markup:
    return Markup(
        '<section class="layer{focus}" style="--tone: var(--c-{layer.key})">'
        '<div class="row"><h4>{layer.title}</h4>{state}{here}</div>'
        '<div class="asks">{asks}</div><div class="chips">{chips}</div>'
        '<div class="owns">Typical failures: {owns}.</div></section>'
    ).format(
        focus=" focus" if focused else "",
        layer=layer,
        state=word(*state) if state else "",
        here=Markup('<span class="here">this lab</span>') if focused else "",
        asks=inline(layer.asks),
        chips=Markup("").join(Markup('<span class="chip">{}</span>').format(part) for part in layer.parts),
        owns=inline(layer.owns),
    )
