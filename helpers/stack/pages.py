"""Pages that services of the stack have of their own, on an address of this machine while somebody looks at them.

    course open phoenix

What is asked goes through the API server to the pod, as `kubectl port-forward` does it: nothing of the cluster is
opened to a network.
"""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.errors import ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import Cluster


@dataclass(frozen=True)
class Page:
    """A Service with a page.

    Args:
        lab: the lab whose start brings it up.
        port: of the Service, and of this machine where nobody else has it.
    """

    namespace: str
    service: str
    port: int
    lab: str
    about: str


PAGES = {"phoenix": Page("llm-observability", "phoenix", 6006, "07", "the traces of lab 07")}


@contextmanager
def address(cluster: Cluster, page: Page) -> Iterator[str]:
    """The page's address while the context lasts: the usual port, or any where that is taken.

    Raises:
        ObjectMissing: the service is not there, or has no ready pod.
    """
    target, port = f"service/{page.service}", _if_free(page.port)
    with cluster.port_forward(page.namespace, target, page.port, local_port=port) as forward:
        yield forward.url


def _if_free(port: int) -> int:
    """The port, or 0 where somebody listens on it."""
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return port
    return 0


def show(
    cluster: Cluster, name: str, say: Callable[[str], object], *, in_browser: bool, over: threading.Event
) -> None:
    """Forward a page until it is over, or Ctrl-C.

    Raises:
        ObjectMissing: as `address`, with the lab that brings it up.
    """
    page = PAGES[name]
    try:
        with address(cluster, page) as url:
            say(f"{name}: {url} ({page.about}). Ctrl-C ends it; the service runs on.")
            sys.stdout.flush()
            if in_browser:
                webbrowser.open(url)
            over.wait()
    except ObjectMissing as missing:
        missing.next_command = f"course start {page.lab}"
        raise
