"""How long the matrix takes: 81 pairs, all denied, beside one exec for each pair as upstream's tests do it.

.venv/bin/python tests/benchmarks/bench_reachability.py        # on the cluster in use, with its probe pods
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from helpers.cluster import Cluster
from helpers.stack.network import Target, observe
from helpers.stack.probes import Caller, place_probes
from helpers.stack.stage import read_stage

NAMESPACE = "llm-probes"
SIDE = 9
RUNS = 5
DENY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "bench-deny", "namespace": NAMESPACE},
    "spec": {"podSelector": {"matchLabels": {"course.llm-stack/probe": "bench"}}, "policyTypes": ["Egress"]},
}


def main() -> None:
    """Nine callers, nine targets, everything denied; each way five times."""
    cluster = Cluster.connect()
    place_probes(cluster)
    callers = _callers(cluster)
    address = read_stage(cluster.view()).parties["node"].ip
    targets = [Target(f"t{number}", str(address), 20000 + number) for number in range(SIDE)]
    cluster.apply(DENY)
    time.sleep(1)
    try:
        _report("one exec for each caller (ours)", lambda: _ours(cluster, callers, targets))
        _report(
            "one exec for each pair, 9 at once (upstream's way)",
            lambda: _each_pair(cluster, callers, targets),
            2,
        )
        _report("forecast of the whole stage", lambda: read_stage(cluster.view()).forecast())
    finally:
        cluster.delete("NetworkPolicy", "bench-deny", NAMESPACE)
        for caller in callers:
            cluster.delete("Pod", caller.pod, NAMESPACE)


def _callers(cluster: Cluster) -> list[Caller]:
    from helpers.stack.probes import probe_pods

    model = next(
        pod
        for pod in probe_pods(cluster.profile().images["toolbox"])
        if pod["metadata"]["name"] == "probe-sealed"
    )
    callers = []
    for number in range(SIDE):
        name = f"bench-{number}"
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"course.llm-stack/probe": "bench"}}
        cluster.apply([{**model, "metadata": metadata}])
        callers.append(Caller(name, NAMESPACE, name))
    for caller in callers:
        cluster.wait_ready("Pod", caller.pod, NAMESPACE, timeout_s=90)
    return callers


def _ours(cluster: Cluster, callers: list[Caller], targets: list[Target]) -> None:
    table = observe(
        lambda namespace, pod, command, limit_s: cluster.exec(namespace, pod, command, timeout_s=limit_s),
        callers,
        targets,
    )
    assert all(seen.stopped for seen in table.seen.values())


def _each_pair(cluster: Cluster, callers: list[Caller], targets: list[Target]) -> None:
    """k8s.io/kubernetes/test/e2e/network/netpol: agnhost connect, an exec a pair, nine workers."""

    def one(pair: tuple[Caller, Target]) -> None:
        caller, target = pair
        command = [
            "sh",
            "-c",
            f'"$(command -v agnhost || echo /agnhost)" connect {target.host}:{target.port} --timeout=1s',
        ]
        cluster.exec(NAMESPACE, caller.pod, command, timeout_s=30)

    with ThreadPoolExecutor(max_workers=SIDE) as pool:
        list(pool.map(one, [(caller, target) for caller in callers for target in targets]))


def _report(name: str, work: Callable[[], object], runs: int = RUNS) -> None:
    seconds = []
    for _ in range(runs):
        began = time.monotonic()
        work()
        seconds.append(time.monotonic() - began)
    print(f"{name:55} median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s, of {runs}")


if __name__ == "__main__":
    main()
