"""Every sampling feature of the OpenAI API, asked once: what goes out, and what must be in the answer.

The list follows vLLM's own request classes (vllm/entrypoints/openai/{chat_completion,completion}/protocol.py
and vllm/sampling_params.py): a feature may be the only way to a kernel that nothing else runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Answer = dict[str, Any]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PERSON}}
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class Feature:
    """A request with one feature, and whether an answer shows it; `refused` asks for a 4xx instead."""

    name: str
    path: str = CHAT
    body: Answer = field(default_factory=dict)
    shows: Callable[[Answer], object] = lambda answer: answer["choices"]
    refused: bool = False

    def request(self, model: str) -> Answer:
        """The body that is sent: the feature's, over a short question."""
        asked: Answer = {"model": model, "max_tokens": 4}
        if self.path == CHAT:
            asked["messages"] = [{"role": "user", "content": "Say hello."}]
        elif self.path == COMPLETION:
            asked["prompt"] = "The capital of France is"
        return {key: value for key, value in {**asked, **self.body}.items() if value is not None}


def _said(answer: Answer) -> str:
    choice = answer["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def _is_person(answer: Answer) -> bool:
    """The grammar allows any white space, and a small model may use its tokens up on it: then what is there fits."""
    said, whole = _said(answer), answer["choices"][0]["finish_reason"] == "stop"
    if not whole:
        return re.fullmatch(r'\{\s*("(name|age)"?[^{}]*)?', said) is not None
    return sorted(json.loads(said)) == ["age", "name"]


def _schema(name: str = "person") -> Answer:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": PERSON, "strict": True}}


FEATURES = (
    Feature("greedy", body={"temperature": 0}),
    Feature("temperature", body={"temperature": 1.0}),
    Feature("top_p", body={"temperature": 1.0, "top_p": 0.5}),
    Feature("top_k", body={"temperature": 1.0, "top_k": 5}),
    Feature("top_k and top_p", body={"temperature": 1.0, "top_k": 5, "top_p": 0.5}),
    Feature("min_p", body={"temperature": 1.0, "min_p": 0.2}),
    Feature("presence_penalty", body={"presence_penalty": 1.5}),
    Feature("frequency_penalty", body={"frequency_penalty": 1.5}),
    Feature("repetition_penalty", body={"repetition_penalty": 1.3}),
    Feature("seed", body={"temperature": 1.0, "seed": 7}),
    Feature("logit_bias", body={"logit_bias": {"28": 100}, "temperature": 0}),
    Feature("bad_words", body={"bad_words": ["hello"]}),
    Feature("stop", body={"stop": ["e", "a"]}, shows=lambda a: a["choices"][0]["finish_reason"] == "stop"),
    Feature("stop_token_ids", body={"stop_token_ids": [2]}),
    Feature("min_tokens", body={"min_tokens": 4}, shows=lambda a: a["usage"]["completion_tokens"] == 4),
    Feature("ignore_eos", body={"ignore_eos": True}, shows=lambda a: a["usage"]["completion_tokens"] == 4),
    Feature("n", body={"n": 3, "temperature": 1.0}, shows=lambda a: len(a["choices"]) == 3),
    Feature("logprobs", body={"logprobs": True}, shows=lambda a: a["choices"][0]["logprobs"]["content"]),
    Feature(
        "top_logprobs",
        body={"logprobs": True, "top_logprobs": 2},
        shows=lambda a: len(a["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2,
    ),
    Feature("prompt_logprobs", body={"prompt_logprobs": 2}, shows=lambda a: len(a["prompt_logprobs"]) > 4),
    Feature("beam search", body={"use_beam_search": True, "n": 2, "temperature": 0}),
    Feature("echo of a chat", body={"echo": True, "add_generation_prompt": True}),
    Feature("truncate_prompt_tokens", body={"truncate_prompt_tokens": 8}),
    Feature("json_object", body={"response_format": {"type": "json_object"}, "max_tokens": 8}),
    Feature("json_schema", body={"response_format": _schema(), "max_tokens": 60}, shows=_is_person),
    Feature(
        "structured json", body={"structured_outputs": {"json": PERSON}, "max_tokens": 60}, shows=_is_person
    ),
    Feature(
        "regex",
        body={"structured_outputs": {"regex": "[a-c]{3}"}, "max_tokens": 8},
        shows=lambda a: re.fullmatch("[a-c]{3}", _said(a)),
    ),
    Feature(
        "choice",
        body={"structured_outputs": {"choice": ["left", "right"]}, "max_tokens": 8},
        shows=lambda a: _said(a) in ("left", "right"),
    ),
    Feature(
        "grammar",
        body={"structured_outputs": {"grammar": 'root ::= "yes" | "no"'}, "max_tokens": 8},
        shows=lambda a: _said(a) in ("yes", "no"),
    ),
    Feature("tools, none of them", body={"tools": [TOOL], "tool_choice": "none"}),
    Feature(
        "stream with usage",
        body={"stream": True, "stream_options": {"include_usage": True}},
        shows=lambda a: a["usage"]["completion_tokens"] == 4,
    ),
    Feature(
        "stream with logprobs",
        body={"stream": True, "logprobs": True, "top_logprobs": 1},
        shows=lambda a: a["choices"],
    ),
    Feature("completion", COMPLETION),
    Feature("echo", COMPLETION, {"echo": True}, lambda a: _said(a).startswith("The capital of France is")),
    Feature(
        "echo with logprobs",
        COMPLETION,
        {"echo": True, "logprobs": 2},
        lambda a: len(a["choices"][0]["logprobs"]["token_logprobs"]) > 4,
    ),
    Feature("logprobs of a prompt alone", COMPLETION, {"echo": True, "logprobs": 1, "max_tokens": 1}),
    Feature("several prompts", COMPLETION, {"prompt": ["One", "Two"]}, lambda a: len(a["choices"]) == 2),
    Feature("a prompt of tokens", COMPLETION, {"prompt": [504, 3575, 282]}),
    Feature("tokens as text", COMPLETION, {"logprobs": 1, "return_tokens_as_token_ids": True}),
    Feature(
        "responses",
        "/v1/responses",
        {"input": "Say hello.", "max_output_tokens": 4, "max_tokens": None},
        lambda a: a["output"],
    ),
    Feature("tokenize", "/tokenize", {"prompt": "one two", "max_tokens": None}, lambda a: a["count"] > 1),
    Feature("detokenize", "/detokenize", {"tokens": [28, 29], "max_tokens": None}, lambda a: a["prompt"]),
    # What is no request of this server is refused, and names the fault.
    Feature("suffix", COMPLETION, {"suffix": "!"}, refused=True),
    Feature("embeddings", "/v1/embeddings", {"input": "x", "max_tokens": None}, refused=True),
    Feature("an unknown model", body={"model": "no-such-model"}, refused=True),
    Feature("no messages", body={"messages": []}, refused=True),
    Feature("messages that are text", body={"messages": "hello"}, refused=True),
    Feature("a role that is none", body={"messages": [{"role": 7, "content": "x"}]}, refused=True),
    Feature(
        "an image",
        body={
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
                }
            ]
        },
        refused=True,
    ),
    Feature("a negative temperature", body={"temperature": -1}, refused=True),
    Feature("a temperature that is text", body={"temperature": "hot"}, refused=True),
    Feature("top_p of 2", body={"top_p": 2}, refused=True),
    Feature("top_k below -1", body={"top_k": -7}, refused=True),
    Feature("min_p of 2", body={"min_p": 2}, refused=True),
    Feature("a penalty of 9", body={"presence_penalty": 9}, refused=True),
    Feature("repetition_penalty of 0", body={"repetition_penalty": 0}, refused=True),
    Feature("n of 0", body={"n": 0}, refused=True),
    Feature("max_tokens of 0", body={"max_tokens": 0}, refused=True),
    Feature("max_tokens past the context", body={"max_tokens": 1_000_000}, refused=True),
    Feature(
        "a prompt past the context",
        body={"messages": [{"role": "user", "content": "word " * 6000}]},
        refused=True,
    ),
    Feature("more logprobs than are given", body={"logprobs": True, "top_logprobs": 999}, refused=True),
    Feature("top_logprobs without logprobs", body={"top_logprobs": 2}, refused=True),
    Feature("negative logprobs", COMPLETION, {"logprobs": -3}, refused=True),
    Feature("a bias of no token", body={"logit_bias": {"99999999": 1}}, refused=True),
    Feature("a bias that is no number", body={"logit_bias": {"x": 1}}, refused=True),
    Feature("a regex that is none", body={"structured_outputs": {"regex": "("}}, refused=True),
    Feature(
        "a schema that is none", body={"structured_outputs": {"json": {"type": "nothing"}}}, refused=True
    ),
    Feature("a grammar that is none", body={"structured_outputs": {"grammar": "root ::= ("}}, refused=True),
    Feature("two structures", body={"structured_outputs": {"regex": "a", "choice": ["a"]}}, refused=True),
    Feature("tools without a parser", body={"tools": [TOOL], "tool_choice": "auto"}, refused=True),
    Feature(
        "a tool that is not there",
        body={"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        refused=True,
    ),
    Feature(
        "stream_options without a stream", body={"stream_options": {"include_usage": True}}, refused=True
    ),
    Feature("a token that is none", COMPLETION, {"prompt": [99_999_999]}, refused=True),
    Feature("an empty prompt of tokens", COMPLETION, {"prompt": []}, refused=True),
)


def answer_of(content: str) -> Answer:
    """The answer's JSON; of a stream its last piece with each field, put together."""
    if not content.startswith("data:"):
        return dict(json.loads(content))
    whole: Answer = {}
    for line in content.splitlines():
        text = line.removeprefix("data:").strip()
        if line.startswith("data:") and text != "[DONE]":
            whole.update({key: value for key, value in json.loads(text).items() if value})
    return whole
