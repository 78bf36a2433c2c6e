"""`make conformance`: upstream's NetworkPolicy e2e suite against the embedded cluster.

Builds the suite from its pinned Go modules (half a minute, cached), brings a cluster up and takes it away
at the end, however this ends (its name is in COURSE_CLUSTER, default "conformance"; one that runs already
is used as it is and left running), and runs every spec but the three that need SCTP in the kernel. Further arguments go to the suite, e.g. -ginkgo.focus=egress.
Exit code 0 only if specs ran and all passed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from helpers.embedded.binaries import BIN, Source, ensure_source
from helpers.embedded.steps import Steps
from helpers.settings import REPOSITORY, kubeconfig_path
from tests.own_cluster import own_cluster

SUITE = Source("conformance", "upstream's NetworkPolicy suite", (".",), output="netpol-e2e")
REPORTS = REPOSITORY / "build" / "conformance"
# These three open SCTP connections, which kernels without CONFIG_IP_SCTP cannot.
NEEDS_SCTP_IN_KERNEL = "Feature:SCTPConnectivity"


def main(arguments: list[str]) -> int:
    """Build, bring up, run, summarise, take away; returns the exit code."""
    name = os.environ.setdefault("COURSE_CLUSTER", "conformance")
    suite = ensure_source(SUITE, Steps()) / BIN / "netpol-e2e"
    with own_cluster(name):
        return run_suite(suite, name, arguments)


def run_suite(suite: Path, name: str, arguments: list[str]) -> int:
    """Run the suite against a running cluster and summarise; returns the exit code."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report, log = REPORTS / "junit.xml", REPORTS / "netpol.log"
    report.unlink(missing_ok=True)
    command = [
        str(suite),
        f"-kubeconfig={kubeconfig_path(name)}",
        f"-ginkgo.skip={NEEDS_SCTP_IN_KERNEL}",
        f"-ginkgo.junit-report={report}",
        "-ginkgo.no-color",
        *arguments,
    ]
    print(f"Running the suite: about 11 minutes, log in {log}", flush=True)
    begun = time.monotonic()
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    passed, failed = read_report(report)
    print(f"{len(passed)} passed, {len(failed)} failed, {time.monotonic() - begun:.0f} s")
    for spec in failed:
        print(f"failed: {spec}")
    return 0 if passed and not failed and code == 0 else 1


def read_report(report: Path) -> tuple[list[str], list[str]]:
    """Names of the specs that passed and that failed; skipped ones are in neither."""
    passed, failed = [], []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.get("classname", "") and case.get("name", "").startswith("[It]"):
            status = case.get("status")
            if status == "passed":
                passed.append(case.get("name", ""))
            elif status not in ("skipped", "pending"):
                failed.append(case.get("name", ""))
    return passed, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
