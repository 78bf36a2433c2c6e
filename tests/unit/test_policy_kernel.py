"""The compiled table in a real kernel: pods as network namespaces, wired as the `ptp` CNI wires them.

Shows what the text alone cannot: replies, Service translation, hairpin, probes from the node,
and that an unknown pod is shut off.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from helpers.embedded.policy.compile import compile_ruleset
from helpers.embedded.policy.model import NamedPort, Namespace, Pod, Policy, State

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nftables for network namespaces"
)

NODE_ADDRESS = "192.0.2.1"
GATEWAY = "10.244.0.1"
SERVICE_B, SERVICE_A = "10.96.0.10", "10.96.0.11"
PORTS = (8080, 8081, 8082)
# A denied connection is dropped, so it costs this long; all targets of a source are tried at once.
DENIED_AFTER_S = 0.7

SERVER = """
import selectors, socket, sys
watch = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    server = socket.create_server(("0.0.0.0", port))
    watch.register(server, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in watch.select():
        connection, _ = key.fileobj.accept()
        connection.sendall(b"ok")
        connection.close()
"""

CLIENT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
wait_s, targets = float(sys.argv[1]), json.loads(sys.argv[2])
def connects(target):
    try:
        with socket.create_connection(target, timeout=wait_s) as connection:
            connection.settimeout(30)  # the kernel has let it through; the server may be slow
            return connection.recv(2) == b"ok"
    except OSError:
        return False
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(list(pool.map(connects, targets))))
"""

NAT = f"""
table ip nat {{
  chain pre {{ type nat hook prerouting priority dstnat;
    ip daddr {SERVICE_B} tcp dport 80 dnat to 10.244.0.3:8080
    ip daddr {SERVICE_A} tcp dport 80 dnat to 10.244.0.2:8080
  }}
  chain post {{ type nat hook postrouting priority srcnat;
    ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade
  }}
}}
"""


def run(*command: str, stdin: str | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout


@dataclass(frozen=True)
class Net:
    """A node `h` and pods a, b, c, d at 10.244.0.2 to .5."""

    prefix: str

    def name(self, who: str) -> str:
        return f"{self.prefix}{who}"

    def inside(self, who: str, *command: str, stdin: str | None = None) -> str:
        return run("ip", "netns", "exec", self.name(who), *command, stdin=stdin)

    def load(self, state: State) -> None:
        self.inside("h", "nft", "-f", "-", stdin=compile_ruleset(state))

    def reached(self, who: str, *targets: tuple[str, int]) -> list[bool]:
        return json.loads(
            self.inside(who, sys.executable, "-c", CLIENT, str(DENIED_AFTER_S), json.dumps(targets))
        )


def wire(net: Net) -> None:
    for who in "habcd":
        run("ip", "netns", "add", net.name(who))
        run("ip", "-n", net.name(who), "link", "set", "lo", "up")
    net.inside("h", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run("ip", "-n", net.name("h"), "addr", "add", f"{NODE_ADDRESS}/32", "dev", "lo")
    for number, who in enumerate("abcd", start=2):
        host, pod, address = net.name("h"), net.name(who), f"10.244.0.{number}"
        link = f"veth{who}"
        run("ip", "-n", host, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pod)
        run("ip", "-n", host, "link", "set", link, "up")
        run("ip", "-n", host, "addr", "add", f"{GATEWAY}/32", "dev", link)
        run("ip", "-n", host, "route", "add", f"{address}/32", "dev", link)
        run("ip", "-n", pod, "addr", "add", f"{address}/32", "dev", "eth0")
        run("ip", "-n", pod, "link", "set", "eth0", "up")
        run("ip", "-n", pod, "route", "add", GATEWAY, "dev", "eth0")
        run("ip", "-n", pod, "route", "add", "default", "via", GATEWAY)
    net.inside("h", "nft", "-f", "-", stdin=NAT)


def unwire(net: Net) -> None:
    for who in "habcd":
        subprocess.run(["ip", "netns", "del", net.name(who)], capture_output=True, check=False)


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    net = Net(f"np{os.getpid()}")
    servers: list[subprocess.Popen[str]] = []
    try:
        wire(net)
        for who in "habcd":
            ports = map(str, (6443,) if who == "h" else PORTS)
            command = ["ip", "netns", "exec", net.name(who), sys.executable, "-c", SERVER, *ports]
            servers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for server in servers:
            assert server.stdout and server.stdout.readline() == "listening\n"
        yield net
    finally:
        for server in servers:
            server.kill()
            server.wait()
        unwire(net)


def pod(name: str, number: int, *ports: NamedPort) -> Pod:
    return Pod(name, "x", name, {"app": name}, f"10.244.0.{number}", ports)


A, B, C, D = "10.244.0.2", "10.244.0.3", "10.244.0.4", "10.244.0.5"
# d is running but unknown to the engine.
KNOWN = (pod("a", 2), pod("b", 3, NamedPort("http", "TCP", 8080)), pod("c", 4))
X = (Namespace("x", "x", {"name": "x"}),)


def policy(name: str, app: str, **spec: object) -> Policy:
    return Policy(name, "x", name, {"podSelector": {"matchLabels": {"app": app}}, **spec})


TO_B = policy(
    "to-b",
    "b",
    policyTypes=["Ingress"],
    ingress=[
        {
            "from": [{"podSelector": {"matchLabels": {"app": "a"}}}],
            "ports": [{"port": 8080, "endPort": 8081}],
        }
    ],
)
FROM_A = policy(
    "from-a",
    "a",
    policyTypes=["Egress"],
    egress=[{"to": [{"ipBlock": {"cidr": "10.244.0.0/24", "except": [f"{C}/32"]}}]}],
)


def test_allowed_and_denied_connections_between_pods(net: Net) -> None:
    net.load(State(KNOWN, X, (TO_B, FROM_A)))
    assert net.reached("a", (B, 8080), (B, 8081), (B, 8082), (C, 8080)) == [True, True, False, False]
    assert net.reached("c", (B, 8080), (A, 8080)) == [False, True]
    assert net.reached("b", (C, 8082)) == [True]


def test_policy_applies_behind_a_service_and_hairpin_passes(net: Net) -> None:
    net.load(State(KNOWN, X, (TO_B, FROM_A)))
    assert net.reached("a", (SERVICE_B, 80), (SERVICE_A, 80)) == [True, True]
    assert net.reached("c", (SERVICE_B, 80)) == [False]


def test_hairpin_passes_even_where_the_pods_policies_allow_nothing(net: Net) -> None:
    net.load(State(KNOWN, X, (policy("shut", "a", policyTypes=["Ingress"]),)))
    assert net.reached("a", (SERVICE_A, 80)) == [True]
    net.load(State(KNOWN, X, (policy("shut", "a", policyTypes=["Ingress", "Egress"]),)))
    assert net.reached("a", (SERVICE_A, 80)) == [True]


def test_the_node_reaches_every_pod_so_that_probes_work(net: Net) -> None:
    net.load(State(KNOWN, X, (TO_B, policy("shut-a", "a"))))
    assert net.reached("h", (B, 8082), (A, 8080), (D, 8080)) == [True, True, True]


def test_egress_rules_bind_on_the_way_to_the_pods_own_node_too(net: Net) -> None:
    net.load(State(KNOWN, X, (FROM_A,)))
    assert net.reached("a", (GATEWAY, 6443), (NODE_ADDRESS, 6443)) == [True, False]
    assert net.reached("b", (NODE_ADDRESS, 6443)) == [True]


def test_an_unknown_pod_has_no_network_until_it_is_known(net: Net) -> None:
    net.load(State(KNOWN, X))
    assert net.reached("d", (C, 8080), (NODE_ADDRESS, 6443)) == [False, False]
    assert net.reached("c", (D, 8080), (A, 8080)) == [False, True]
    net.load(State((*KNOWN, pod("d", 5)), X))
    assert net.reached("d", (C, 8080), (NODE_ADDRESS, 6443)) == [True, True]


def test_the_skeleton_gives_no_pod_a_network(net: Net) -> None:
    net.load(State())
    assert net.reached("a", (B, 8080), (NODE_ADDRESS, 6443), (SERVICE_B, 80)) == [False, False, False]
    assert net.reached("h", (A, 8080)) == [True]


def test_named_ports_in_egress_reach_only_that_port(net: Net) -> None:
    rule = {"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}
    net.load(State(KNOWN, X, (policy("named", "a", policyTypes=["Egress"], egress=[rule]),)))
    assert net.reached("a", (B, 8080), (B, 8081), (C, 8080)) == [True, False, False]


def test_every_form_of_rule_is_one_that_the_kernel_takes(net: Net) -> None:
    blocks = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "10.244.0.0/16"]}},
        {"ipBlock": {"cidr": "192.0.2.7/24"}},
        {"ipBlock": {"cidr": "2001:db8::/32"}},
        {"namespaceSelector": {}},
    ]
    ports = [
        {"port": 53, "protocol": "UDP"},
        {"port": 9, "protocol": "SCTP"},
        {"protocol": "TCP"},
        {"port": "http"},
        {"port": 1, "endPort": 65535},
    ]
    everything = policy(
        "everything",
        "b",
        policyTypes=["Ingress", "Egress"],
        ingress=[{"from": blocks, "ports": ports}, {"from": blocks}, {"ports": ports}, {}],
        egress=[{"to": blocks, "ports": ports}, {"to": blocks}, {"ports": ports}, {}],
    )
    net.load(State(KNOWN, X, (everything,)))
    net.load(State(KNOWN, X, (policy("deny", "b", policyTypes=["Ingress", "Egress"]),)))


def test_replacing_the_table_breaks_no_open_connection(net: Net) -> None:
    net.load(State(KNOWN, X))
    reader = (
        "import socket,sys,time\n"
        f"c=socket.create_connection(('{NODE_ADDRESS}',6444),timeout=10)\n"
        "print('open',flush=True)\n"
        "sys.stdin.readline(); c.sendall(b'x'); print(c.recv(1).decode())\n"
    )
    echo = (
        "import socket\ns=socket.create_server(('0.0.0.0',6444)); print('up',flush=True)\n"
        "c,_=s.accept(); c.sendall(c.recv(1)); c.recv(1)\n"
    )

    def process(who: str, code: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", net.name(who), sys.executable, "-c", code]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with process("h", echo) as server:
        assert server.stdout and server.stdout.readline() == "up\n"
        with process("a", reader) as client:
            try:
                assert client.stdout and client.stdout.readline() == "open\n"
                net.load(State(KNOWN, X, (policy("shut", "a", policyTypes=["Egress"]),)))
                answer, _ = client.communicate("go\n", timeout=10)
                assert answer.strip() == "x"
            finally:
                client.kill()
                server.kill()


def test_a_hundred_pods_and_thirty_policies_reach_the_kernel(net: Net) -> None:
    pods = tuple(
        Pod(f"u{i}", "x", f"p{i}", {"app": f"a{i % 10}"}, f"10.244.1.{i}", (NamedPort("http", "TCP", 80),))
        for i in range(100)
    )
    policies = tuple(
        policy(f"p{i}", f"a{i % 10}", ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": 80 + i}]}])
        for i in range(30)
    )
    net.load(State(pods, X, policies))
    loaded = net.inside("h", "nft", "list", "ruleset")
    assert [pod.address for pod in pods if pod.address not in loaded] == []
    assert [80 + i for i in range(30) if f"dport {80 + i} " not in loaded] == []
