"""`python3 -m helpers.embedded.devices`: the simulated GPUs of one node, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path

from helpers.embedded.devices.daemon import Options, default_node_name, run


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="devices", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("/etc/course/devices.yaml"))
    parser.add_argument("--unhealthy", type=Path, default=Path("/etc/course/unhealthy.json"))
    parser.add_argument("--kubeconfig", type=Path, default=Path("/etc/kubernetes/admin.conf"))
    parser.add_argument("--socket-dir", type=Path, default=Path("/var/lib/kubelet/device-plugins"))
    parser.add_argument("--node-name", default=default_node_name())
    parser.add_argument(
        "--poll-s", type=float, default=Options.poll_s, help="how often files and sockets are looked at"
    )
    parser.add_argument(
        "--node-check-s", type=float, default=Options.node_check_s, help="how often the Node is looked at"
    )
    parser.add_argument(
        "--metrics", default="", metavar="HOST:PORT", help="where Prometheus may ask; without it nobody can"
    )
    parser.add_argument("--pod-resources", type=Path, default=Options.pod_resources)
    parser.add_argument("--runtime", type=Path, default=Options.runtime)
    options = Options(**vars(parser.parse_args()))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(options, stop)


if __name__ == "__main__":
    main()
