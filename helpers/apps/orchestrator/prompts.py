"""What the model is told, by version; `PROMPT_NAME` in the environment adds a version or replaces one.

A prompt is the system message, and after it examples where a small model needs to be shown: a line
`--- user` or `--- assistant` begins each of their turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from helpers.apps.orchestrator.backends import Passage
from helpers.apps.orchestrator.decisions import Message

BUILT_IN = {
    "v1": "You answer questions about running language models on Kubernetes. "
    "Use the passages you are given, and answer in at most three sentences.",
    "v2": "You answer questions about running language models on Kubernetes. "
    "Use only the passages you are given. Name the passage you use by its number, as in [1]. "
    "If no passage has the answer, say that you do not know.",
}
_TURN = re.compile(r"^--- (user|assistant)[ ]*\n", re.MULTILINE)
WITHOUT_PASSAGES = "No passages could be looked up. Say so first, then answer from general knowledge."


def versions(more: Mapping[str, str]) -> dict[str, str]:
    """All prompts by version."""
    return BUILT_IN | dict(more)


def with_passages(question: str, passages: Sequence[Passage]) -> str:
    """The last turn: the passages, numbered, and the question after them."""
    if not passages:
        return question
    listed = "\n".join(f"[{number}] {item.title}. {item.text}" for number, item in enumerate(passages, 1))
    return f"Passages:\n{listed}\n\nQuestion: {question}"


def messages(
    system: str, history: Sequence[Message], question: str, passages: Sequence[Passage]
) -> list[Message]:
    """One conversation as it is sent to the engine; `system` is a prompt, with its examples."""
    last = {"role": "user", "content": with_passages(question, passages)}
    return [*turns(system), *history, last]


def turns(prompt: str) -> list[Message]:
    """A prompt as messages: the system message, and the examples' turns."""
    system, *parts = _TURN.split(prompt)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    examples = [{"role": role, "content": text.strip()} for role, text in pairs]
    return [{"role": "system", "content": system.strip()}, *examples]


def degraded(prompt: str) -> str:
    """The prompt of an answer without passages: its examples show how to use some, and go."""
    return f"{_TURN.split(prompt)[0].strip()} {WITHOUT_PASSAGES}"
