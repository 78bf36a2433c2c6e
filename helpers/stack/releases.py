"""Releases of the assistant: what differs from one to the next, and the candidates that the course brings.

A release is environment in the Rollout's pod template, prompt included: another release is another revision,
and a rollback brings all of it back. `stable` is what the lab's start puts in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.stack import memory

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.progress import Progress
    from helpers.stack.embeddings import Vector

ANNOTATION = "course/release"
# Collections beside the corpus's own: one with every text under another one's vector, one that lacks a page.
SHIFTED, LOSSY = "course_docs_shifted", "course_docs_lossy"
SHIFT = 17
LOST_KEY = "recovery-point"
LOST_QUESTION = "How much of what was written is gone after a restore from a snapshot?"
ANSWER_TOKENS, LONG_TOKENS = 32, 96
RESTART_S = 120.0


@dataclass(frozen=True)
class Release:
    """One release, by what differs from the stable one.

    Args:
        fault: the metric that gives it away; empty where nothing is wrong with it.
    """

    name: str
    about: str
    prompt: str
    retrieval: str = "on"
    collection: str = memory.COLLECTION
    output_tokens: int = ANSWER_TOKENS
    fault: str = ""

    @property
    def version(self) -> str:
        """The name of its prompt: each answer carries it."""
        return self.name.replace("-", "_")

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a pod this release's."""
        return {
            "RELEASE": self.name,
            "DEFAULT_PROMPT_VERSION": self.version,
            f"PROMPT_{self.version.upper()}": self.prompt,
            "RETRIEVAL": self.retrieval,
            "QDRANT_COLLECTION": self.collection,
            "MAX_OUTPUT_TOKENS": str(self.output_tokens),
        }


# A model of 135 million parameters learns a form from examples and not from being told. What it then says is
# another matter: the form can be gated, its sense cannot (part 2 of lab 07 measures that).
_EXAMPLES = (
    (
        "[1] Logs. Logs of a container that has ended are shown with --previous.\n"
        "[2] Nodes. A node that is cordoned takes no new pods.\n"
        "[3] Jobs. A Job makes a new pod until one has succeeded.",
        "Where do new pods go while a node is cordoned?",
        "[2]",
        "A node that is cordoned takes no new pods.",
    ),
    (
        "[1] Secrets. A Secret is only base64, which is no encryption.\n"
        "[2] Labels. Labels select objects, annotations do not.\n"
        "[3] Taints. A taint keeps pods away that do not tolerate it.",
        "Are Secrets encrypted?",
        "[1]",
        "No. A Secret is only base64, which is no encryption.",
    ),
    (
        "[1] Probes. A probe asks the kubelet's question.\n"
        "[2] Images. A tag may move, a digest does not.\n"
        "[3] Limits. A container above its memory limit is killed.",
        "What happens above the memory limit?",
        "[3]",
        "A container above its memory limit is killed.",
    ),
)


def _prompt(system: str, *, cites: bool = True) -> str:
    """A prompt with its examples, in the orchestrator's form."""
    turns = [
        f"--- user\nPassages:\n{passages}\n\nQuestion: {question}\n"
        f"--- assistant\n{f'{number} ' if cites else ''}{answer}"
        for passages, question, number, answer in _EXAMPLES
    ]
    return "\n".join([system, *turns])


_ABOUT = "You answer questions about running language models on Kubernetes."
_SYSTEM = (
    f"{_ABOUT} Begin with the number of the passage that has the answer, as in [1], "
    "then say in one or two sentences what it says."
)
_STABLE = _prompt(_SYSTEM)
_GOOD = _prompt(
    "You help operators who run language models on Kubernetes. Give the number of the passage you use first, "
    "as in [1], and then the answer in a short sentence."
)
_PLAIN = _prompt(f"{_ABOUT} Say in one or two sentences what the passages say.", cites=False)
_LONG = _prompt(f"{_SYSTEM} Explain every step at length, with background and examples.")

STABLE, GOOD, LOST_PAGE = "stable", "good", "lost-page"
RELEASES: Mapping[str, Release] = {
    item.name: item
    for item in (
        Release(STABLE, "what users have now", _STABLE),
        Release(GOOD, "the same in better words", _GOOD),
        Release("prompt-cut", "a merge that lost the system prompt", "Answer.", fault="citation"),
        Release("no-retrieval", "retrieval switched off", _STABLE, retrieval="off", fault="retrieval_hit"),
        Release(
            "wrong-collection",
            "a collection whose vectors belong to other texts",
            _STABLE,
            collection=SHIFTED,
            fault="retrieval_hit",
        ),
        Release("no-citations", "a prompt that asks for no source", _PLAIN, fault="citation"),
        Release(
            "long-winded",
            "right, and three times as long",
            _LONG,
            output_tokens=LONG_TOKENS,
            fault="tokens_ratio",
        ),
        Release(LOST_PAGE, "a collection that lost one page when it was filled", _STABLE, collection=LOSSY),
    )
}
BAD = tuple(name for name, item in RELEASES.items() if item.fault)
# Every variable that any release sets: what another release's pods must not keep.
VARIABLES = frozenset(key for item in RELEASES.values() for key in item.environment)


def with_release(template: dict[str, Any], name: str, container: str) -> dict[str, Any]:
    """A pod template with this release's environment in the container; other variables stay.

    Raises:
        KeyError: there is no such release.
    """
    release = RELEASES[name]
    metadata = template.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), ANNOTATION: name}
    for item in template["spec"]["containers"]:
        if item["name"] == container:
            kept = [entry for entry in item.get("env") or [] if entry["name"] not in VARIABLES]
            item["env"] = [
                *kept,
                *({"name": key, "value": value} for key, value in release.environment.items()),
            ]
    return template


def ensure_collections(cluster: Cluster, progress: Progress = lambda line: None) -> list[str]:
    """The collections that some releases answer from, beside the corpus's own; a line for each that was missing.

    A Qdrant that serves what it has read from its volume, and was sent nothing, does so afterwards too: lab 03 asks
    for that, and filling takes it away.

    Raises:
        MemoryUnavailable, MemoryRefused: Qdrant does not answer, or does not take them.
    """
    from helpers.stack.embeddings import embedder

    passages = memory.corpus()
    wanted = {
        SHIFTED: (passages, _shifted(passages)),
        LOSSY: ([item for item in passages if item.key != LOST_KEY], None),
    }
    done: list[str] = []
    was_sent_nothing = False
    for name, (texts, to_point) in wanted.items():
        with memory.connect(cluster) as qdrant:
            qdrant.collection = name
            found = qdrant.state()
            if found is not None and found.points == len(texts):
                continue
            was_sent_nothing = was_sent_nothing or memory.writes_received(qdrant.metrics()) == 0
            progress(f"filling Qdrant's collection {name}")
            qdrant.create_collection()
            qdrant.ingest(texts, embedder(), to_point=to_point)
        done.append(f"{len(texts)} passages in Qdrant's collection {name}")
    if was_sent_nothing:
        progress("qdrant: a new process, as it was before")
        cluster.delete("Pod", f"{memory.STATEFUL_SET}-0", memory.NAMESPACE, wait_s=RESTART_S)
        cluster.wait_rollout("StatefulSet", memory.STATEFUL_SET, memory.NAMESPACE, timeout_s=RESTART_S)
    return done


def _shifted(passages: Any) -> Any:
    """Points with the vector of one passage and the text of another: everything is found, and nothing is right."""
    others = {item.key: passages[(at + SHIFT) % len(passages)] for at, item in enumerate(passages)}

    def to_point(passage: memory.Passage, vector: Vector) -> dict[str, Any]:
        other = others[passage.key]
        return {"id": other.id, "vector": vector, "payload": other.payload()}

    return to_point
