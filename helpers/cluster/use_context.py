"""`course use`: which cluster the labs work against from now on."""

from __future__ import annotations

from pathlib import Path

from helpers.cluster import Cluster
from helpers.cluster import kubeconfig as files
from helpers.cluster.connection import Choice, contexts_in, default_kubeconfig, save_choice
from helpers.errors import LabError, NoClusterChosen


def choose_embedded() -> str:
    """Go back to the embedded cluster; a sentence that says so."""
    save_choice(Choice())
    return "The labs work against the embedded cluster. Next: course up"


def choose_context(context: str, kubeconfig: Path | None = None) -> str:
    """Remember a context of a kubeconfig (kubectl's own unless given); a sentence that says what answers.

    Raises:
        NoClusterChosen: the file is not there or holds no such context; nothing was changed then.
    """
    path = files.absolute(kubeconfig or default_kubeconfig(context))
    if not files.is_there(path):
        raise NoClusterChosen(f"there is no kubeconfig {path}", next_command="course use --help")
    known = contexts_in(path)
    if context not in known:
        listed = ", ".join(known) or "none"
        raise NoClusterChosen(
            f"{path} has no context {context}; it has: {listed}",
            next_command=files.kubectl(path, "config get-contexts"),
        )
    save_choice(Choice(context, str(path)))
    return f"The labs work against the context {context} of {path}: {_what_answers(path, context)}"


def _what_answers(path: Path, context: str) -> str:
    """The choice stands also while the cluster is off: it is said, not refused."""
    try:
        identity = Cluster.connect(kubeconfig=path, context=context).identity()
    except LabError as problem:
        return f"it does not answer now ({problem}). Next: course doctor"
    return f"{identity.server_version}, GPU {identity.gpu}. Next: course doctor"
