"""`python -m helpers.apps.isvc`: reconcile one namespace until SIGTERM."""

from __future__ import annotations

import logging
import os
from pathlib import Path


def main() -> None:
    import kopf

    from helpers.apps.isvc.api import KubeApi
    from helpers.apps.isvc.operator import Controller, registered
    from helpers.apps.isvc.passes import Reconciler

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    namespace = os.environ["NAMESPACE"]
    reconciler = Reconciler.of_folder(Path(os.environ.get("DECISIONS_DIR", "/etc/isvc/decisions")))
    logging.getLogger("isvc").info(
        "namespace %s, %s",
        namespace,
        f"reconcile.py {reconciler.source}" if reconciler.source else "no functions",
    )
    controller = Controller(KubeApi(namespace), reconciler)
    kopf.run(
        registry=registered(controller),
        namespaces=[namespace],
        standalone=True,
        liveness_endpoint="http://0.0.0.0:8080/healthz",
    )


if __name__ == "__main__":
    main()
