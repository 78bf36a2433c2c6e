"""`python3 -m helpers.embedded.policy`: enforce NetworkPolicy on this node until SIGTERM; rules stay after."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import threading
from pathlib import Path

from helpers.embedded.kubeapi import wait_for_api
from helpers.embedded.policy.compile import DEFAULT_POD_RANGE
from helpers.embedded.policy.engine import Engine, Store, start_following


def main() -> None:
    """Read the options and enforce."""
    parser = argparse.ArgumentParser(prog="policy", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, default=Path("/etc/kubernetes/admin.conf"))
    parser.add_argument("--pod-range", default=DEFAULT_POD_RANGE)
    parser.add_argument("--cni-results", type=Path, default=Path("/var/lib/cni/results"))
    parser.add_argument("--status", type=Path, default=Path("/run/course/policy.json"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # A new pod has no network until the rules are loaded, however busy the machine is with its start.
    with contextlib.suppress(PermissionError):
        os.nice(-5)
    stop, store = threading.Event(), Store()

    def end(*_: object) -> None:
        stop.set()
        store.told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    api = wait_for_api(options.kubeconfig, stop)
    if api is not None:
        start_following(api, store, options.cni_results, stop)
        Engine(store, options.pod_range, options.status).run(stop)


if __name__ == "__main__":
    main()
