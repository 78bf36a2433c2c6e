"""What learners do by hand: commands for the page's own terminal, as they are typed on this cluster.

by_hand(lab, "kubectl get pods -n llm-system")              # a card with the commands
apply_panel(lab, client_yaml(), button)                     # the pod with curl that they ask from
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from helpers.notebook.html import card
from helpers.notebook.session import needs_cluster
from helpers.stack.bring_up import CLIENT, MANIFESTS

if TYPE_CHECKING:
    import marimo as mo

    from helpers.notebook.session import LabSession

_HEAD = Markup(
    "<small>In the page's terminal (<kbd>Ctrl</kbd>+<kbd>`</kbd>, or <code>course shell</code>):</small>"
)


@needs_cluster
def by_hand(lab: LabSession, commands: str) -> mo.Html:
    """Commands to type, one below the other, with this cluster's namespaces and names in them.

    Args:
        commands: they speak of the course's namespaces; `$SERVED_MODEL` and the like stand for this cluster's.
    """
    assert lab.cluster is not None
    typed = [lab.cluster.scope.command(line) for line in lab.render(commands).strip().splitlines()]
    lines = Markup("").join(Markup("<pre>{}</pre>").format(line.strip()) for line in typed)
    return card(_HEAD + lines)


def client_yaml() -> str:
    """The pod `curl-client` in `llm-apps`; `$TOOLBOX` in it stands for the cluster's image."""
    return (MANIFESTS / "client" / f"{CLIENT}.yaml").read_text()
