"""The state of the stack: what Redis holds, for how long, and how it would survive its own death.

    store = read(cluster.view())
    store.append_only, store.policy, store.idempotency

Redis is asked through a port-forward to its pod, in its own protocol and with commands that Redis itself
keeps from writing (`EVAL_RO`): no client has to be in its image.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.errors import EnvironmentFault, LabError, ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

NAMESPACE = "llm-system"
NAME = "redis"
POD = "redis-0"
LABELS = "app=redis"
PORT = 6379
TIMEOUT_S = 5.0
PREFIX = "orc:"
IDEMPOTENCY, RUNNING, THREAD = f"{PREFIX}idem:", f"{PREFIX}run:", f"{PREFIX}thread:"
BUDGETS = "gateway:"
# What decides whether Redis outlives its process, and what it does when it is full.
SETTINGS = ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "save")

# Every key with its kind, its time to live in ms and its size; no value leaves Redis.
KEYS_SCRIPT = """
local found, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local size = redis.pcall('MEMORY', 'USAGE', key)
    if type(size) ~= 'number' then size = 0 end
    found[#found + 1] = {key, redis.call('TYPE', key).ok, redis.call('PTTL', key), size}
  end
until cursor == '0'
if #found == 0 then return '[]' end
return cjson.encode(found)
"""
# What keys hold, each as one text.
VALUES_SCRIPT = """
local said = {}
local function text(reply)
  if type(reply) == 'table' then
    local parts = {}
    for _, part in ipairs(reply) do parts[#parts + 1] = text(part) end
    return table.concat(parts, ' ')
  end
  return tostring(reply)
end
local ask = {string = {'GET'}, hash = {'HGETALL'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'},
  zset = {'ZRANGE', 0, -1}, stream = {'XRANGE', '-', '+'}, ['ReJSON-RL'] = {'JSON.GET'}}
local cursor = '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local command = ask[redis.call('TYPE', key).ok]
    if command then
      said[#said + 1] = {key, text(redis.pcall(command[1], key, unpack(command, 2)))}
    end
  end
until cursor == '0'
if #said == 0 then return '[]' end
return cjson.encode(said)
"""


class StateUnavailable(EnvironmentFault):
    """Redis did not answer: no pod, a connection cut, or a time-out."""


class StateRefused(LabError):
    """Redis answered with an error."""


@dataclass(frozen=True)
class Key:
    """One key: `ttl_s` is None for one that never ends, `size` is Redis's own count of bytes."""

    name: str
    kind: str
    ttl_s: float | None
    size: int


@dataclass(frozen=True)
class Store:
    """What Redis holds, and how it is set up."""

    keys: tuple[Key, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    used_bytes: int = 0
    uptime_s: int = 0

    @property
    def append_only(self) -> bool:
        """Whether each write goes to the log on disk."""
        return self.settings.get("appendonly") == "yes"

    @property
    def max_bytes(self) -> int:
        """How much it may hold; 0 is no bound."""
        return int(self.settings.get("maxmemory") or 0)

    @property
    def policy(self) -> str:
        """What it does when it is full."""
        return self.settings.get("maxmemory-policy", "")

    def named(self, prefix: str) -> tuple[Key, ...]:
        """The keys whose name begins so."""
        return tuple(key for key in self.keys if key.name.startswith(prefix))

    @property
    def idempotency(self) -> tuple[Key, ...]:
        """One key for each question that came with an Idempotency-Key: a lease first, then the result."""
        return self.named(IDEMPOTENCY)

    @property
    def running(self) -> tuple[Key, ...]:
        """The leases of threads that a pod is working on."""
        return self.named(RUNNING)

    @property
    def threads(self) -> tuple[str, ...]:
        """The threads there are, as `tenant/thread`."""
        return tuple(key.name.removeprefix(THREAD).replace(":", "/", 1) for key in self.named(THREAD))

    def of_thread(self, thread: str) -> tuple[Key, ...]:
        """Every key that belongs to a thread: its owner, its lease and LangGraph's checkpoints."""
        return tuple(key for key in self.keys if thread in key.name)

    @property
    def for_ever(self) -> tuple[Key, ...]:
        """The keys that nothing will ever remove."""
        return tuple(key for key in self.keys if key.ttl_s is None)


def read(view: ClusterView, pattern: str = "*") -> Store:
    """Everything but the values, in one connection.

    Raises:
        ObjectMissing: there is no pod of Redis that is ready.
        StateUnavailable: it does not answer.
        StateRefused: it answers with an error.
    """
    commands = [
        ["INFO"],
        *(["CONFIG", "GET", name] for name in SETTINGS),
        ["EVAL_RO", KEYS_SCRIPT, "0", pattern],
    ]
    info, *settings, keys = ask(view, commands)
    facts = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
    modules = re.findall(r"^module:name=([^,]+)", str(info), re.MULTILINE)
    return Store(
        keys=tuple(_key(*entry) for entry in json.loads(keys)),
        settings={name: value for pair in settings for name, value in [pair[:2]]},
        modules=tuple(modules),
        used_bytes=int(facts.get("used_memory", 0)),
        uptime_s=int(facts.get("uptime_in_seconds", 0)),
    )


def values(view: ClusterView, pattern: str) -> dict[str, str]:
    """What the keys of that pattern hold, each as one text; what was stored as base64 is read, too.

    Raises:
        ObjectMissing, StateUnavailable, StateRefused: as `read`.
    """
    (found,) = ask(view, [["EVAL_RO", VALUES_SCRIPT, "0", pattern]])
    return {name: f"{text} {' '.join(_unpacked(text))}".strip() for name, text in json.loads(found)}


def ask(view: ClusterView, commands: Sequence[Sequence[str]]) -> list[Any]:
    """The answers to some commands, in their order.

    Raises:
        ObjectMissing, StateUnavailable, StateRefused: as `read`.
    """
    pod = next((item.name for item in view.pods(NAMESPACE, labels=LABELS) if item.is_ready), None)
    if pod is None:
        raise ObjectMissing(
            "ready pod of", NAME, NAMESPACE, next_command=f"kubectl get pods -n {NAMESPACE} -l {LABELS}"
        )
    with view.forward(NAMESPACE, pod, PORT) as way:
        try:
            with socket.create_connection((way.host, way.port), timeout=TIMEOUT_S) as connection:
                connection.sendall(b"".join(encoded(command) for command in commands))
                with connection.makefile("rb") as stream:
                    answers = [decoded(stream) for _ in commands]
        except (OSError, ValueError) as error:
            raise StateUnavailable(
                f"Redis does not answer: {error}", next_command=f"kubectl logs -n {NAMESPACE} {pod} --tail=20"
            ) from error
    for command, answer in zip(commands, answers, strict=True):
        if isinstance(answer, Problem):
            raise StateRefused(f"Redis refuses {command[0]}: {answer}")
    return answers


class Problem(str):
    """An error that Redis answered with."""


def encoded(command: Sequence[str]) -> bytes:
    """A command in Redis's protocol (RESP 2): https://redis.io/docs/latest/develop/reference/protocol-spec/.

    >>> encoded(["PING"])
    b'*1\\r\\n$4\\r\\nPING\\r\\n'
    """
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def decoded(stream: Any) -> Any:
    """One answer of Redis: a text, a number, a list, None or a Problem.

    Raises:
        ValueError: the connection ended, or what came is not Redis's protocol.
    """
    line = stream.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:].decode("utf-8", "replace")
    if kind in (b"+", b"-"):
        return rest if kind == b"+" else Problem(rest)
    if kind == b":":
        return int(rest)
    if kind not in (b"$", b"*"):
        raise ValueError(
            f"what came is not Redis's protocol: {line[:40]!r}" if line else "the connection ended"
        )
    size = int(rest)
    if size < 0:
        return None
    if kind == b"*":
        return [decoded(stream) for _ in range(size)]
    body = stream.read(size + 2)
    if len(body) < size + 2:
        raise ValueError("the connection ended")
    return body[:-2].decode("utf-8", "replace")


def _key(name: str, kind: str, ttl_ms: float, size: float) -> Key:
    return Key(name, kind, ttl_ms / 1000 if ttl_ms >= 0 else None, int(size))


def _unpacked(text: str) -> Iterator[str]:
    """The readable parts of what lies in a text as base64: LangGraph packs messages so."""
    for part in re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", text):
        try:
            raw = base64.b64decode(part, validate=True)
        except ValueError:
            continue
        yield raw.decode("utf-8", "ignore")
