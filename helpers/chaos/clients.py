"""What clients see: two small clients in the application's namespace, four attempts a second each.

They run inside the grader's probe pod, not in this process, so they see what the application would
see (Service, endpoints, policy) and go on when this process or the API server is gone. Every run
has an end of its own, whatever happens to whoever started it.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import ProbeInconclusive

if TYPE_CHECKING:
    from helpers.cluster import Cluster

INTERVAL_S = 0.25
ATTEMPT_TIMEOUT_S = 2.0
LIFETIME_S = 900
NAMESPACE, POD = "llm-apps", "probe-app"
_LINE = re.compile(r"^([\d.]+) (\w+) (\d{3}) (\d+) ([\d.]+) ([\d.]+) ?(.*)$")

# One background attempt for each client and tick: a slow backend must not slow the clock.
_SCRIPT = r"""
trap "" HUP  # the exec that started this ends at once
dir=/tmp/course-$RUN; mkdir -p $dir; : > $dir/log
now() { if [ -n "$EPOCHREALTIME" ]; then echo "$EPOCHREALTIME"; else date +%s.%N; fi; }
one() {
  name=$1; shift
  curl -s -o /dev/null --noproxy '*' --connect-timeout $LIMIT --max-time $LIMIT \
    -w "$(now) $name %{http_code} %{exitcode} %{time_total} %{time_connect} %{errormsg}\n" "$@" >> $dir/log
}
end=$(( $(date +%s) + LIFETIME ))
while [ $(date +%s) -lt $end ] && [ ! -e $dir/stop ]; do
  one inference -H content-type:application/json -d "$PROMPT" "$VLLM/v1/completions" &
  one retrieval "$QDRANT/collections?[1-$QUERIES]" &
  sleep $INTERVAL
done
wait; rm -f $dir/stop
"""


@dataclass(frozen=True)
class Attempt:
    """One client's attempt: when it began (this machine's clock), what came back, how long it took."""

    t: float
    client: str
    outcome: str
    status: int | None
    ms: float

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"


class Clients:
    """The clients of one experiment, in the probe pod; `collect` brings what they wrote since last time.

    Args:
        queries: how many requests retrieval makes in a row at each tick, over one connection; each is
            an attempt of its own. A backend that is slow but not dead shows under work, not when idle.
    """

    def __init__(self, cluster: Cluster, run: str, *, queries: int = 1) -> None:
        self._cluster, self.run, self._queries, self._offset, self._skew_s = cluster, run, queries, 0, 0.0

    def start(self) -> None:
        """Start them; ProbeInconclusive when the probe pod cannot."""
        profile = self._cluster.profile()
        prompt = json.dumps({"model": profile.served_model_name, "prompt": "1", "max_tokens": 1})
        scope = self._cluster.scope
        values = {
            "RUN": self.run,
            "LIMIT": f"{ATTEMPT_TIMEOUT_S:g}",
            "LIFETIME": str(LIFETIME_S),
            "INTERVAL": f"{INTERVAL_S:g}",
            "QUERIES": str(self._queries),
            "PROMPT": prompt,
            "VLLM": f"http://vllm.{scope.namespace('llm-system')}:8000",
            "QDRANT": f"http://qdrant.{scope.namespace('llm-system')}:6333",
        }
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        shell = "$(command -v bash || command -v sh)"
        started = f"{shell} -c {shlex.quote(_SCRIPT)} >/dev/null 2>&1 &"
        clock = f"{shell} -c 'echo ${{EPOCHREALTIME:-$(date +%s.%N)}}'"
        before = time.time()
        result = self._exec(["sh", "-c", f"export {exports}; {started} {clock}"])
        after = time.time()
        if not result.ok or not result.stdout.strip():
            raise ProbeInconclusive(f"the clients could not be started: {result.stderr.strip()}")
        there = result.stdout.split()[-1]
        # Only a clock that is really off is corrected: the exchange itself takes a tenth of a second.
        skew_s = (before + after) / 2 - float(there) if there.replace(".", "").isdigit() else 0.0
        self._skew_s = skew_s if abs(skew_s) > 1 else 0.0

    def collect(self) -> list[Attempt]:
        """Every attempt that ended since the last call."""
        result = self._exec(["tail", "-c", f"+{self._offset + 1}", f"/tmp/course-{self.run}/log"])
        if not result.ok:
            raise ProbeInconclusive(f"the clients' log cannot be read: {result.stderr.strip()}")
        whole, newline, _ = result.stdout.rpartition("\n")
        self._offset += len((whole + newline).encode())
        return list(parse_attempts(whole, self._skew_s))

    def stop(self) -> None:
        """Let them end after their present attempt."""
        self._exec(["sh", "-c", f"touch /tmp/course-{self.run}/stop"])

    def _exec(self, command: list[str]) -> Any:
        return self._cluster.exec(NAMESPACE, POD, command, timeout_s=10)


def parse_attempts(text: str, skew_s: float = 0.0) -> Iterator[Attempt]:
    """Read the clients' lines; a line that is not one of theirs is skipped."""
    for line in text.splitlines():
        found = _LINE.match(line)
        if found:
            t, client, status, code, total, connected, said = found.groups()
            outcome = outcome_of(int(code), int(status), float(connected), said)
            yield Attempt(
                float(t) + skew_s, client, outcome, int(status) or None, round(float(total) * 1000, 1)
            )


def outcome_of(code: int, status: int, connected: float, said: str) -> str:
    """One word for what a client saw: ok, HTTP 4xx or 5xx, refused, timeout, reset, dns, or curl's number."""
    if status:
        return "ok" if status < 400 else f"HTTP {status}"
    if code == 6 or (code == 28 and "esolv" in said):
        return "dns"
    if code == 7:
        return "refused"
    if code == 28:
        return "timeout"
    return "reset" if connected > 0 else f"curl {code}"
