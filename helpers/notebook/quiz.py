"""A quiz whose every answer, right or wrong, comes with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import card, course, inline, plain, word


@dataclass(frozen=True)
class Option:
    """One answer: its text, and why it is right or wrong."""

    text: str
    reason: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """One question with exactly one right option."""

    text: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if sum(option.right for option in self.options) != 1:
            raise ValueError(f"a question has exactly one right option: {self.text}")


def quiz(questions: Sequence[Question]) -> Any:
    """One radio for each question; its value is a list of option numbers, None where unanswered."""
    return mo.ui.array(
        [
            mo.ui.radio(
                options={plain(option.text): number for number, option in enumerate(question.options)}
            )
            for question in questions
        ]
    )


def quiz_board(answers: Any, questions: Sequence[Question]) -> mo.Html:
    """The questions with their radios, the reason under each answered one, and the score in words."""
    parts: list[Any] = []
    right = 0
    for number, (question, radio, chosen) in enumerate(
        zip(questions, answers.elements, answers.value, strict=True), start=1
    ):
        parts += [mo.md(f"**{number}.** {question.text}"), radio, _feedback(question, chosen)]
        right += chosen is not None and question.options[chosen].right
    answered = sum(chosen is not None for chosen in answers.value)
    score = Markup("<b>{} of {} right</b>, {} unanswered").format(
        right, len(questions), len(questions) - answered
    )
    return mo.vstack([*parts, card(score, live=True)], gap=0.6)


def _feedback(question: Question, chosen: int | None) -> mo.Html:
    if chosen is None:
        return course("")
    option = question.options[chosen]
    said = word("PASS", "right") if option.right else word("FAIL", "not quite")
    return course(Markup("<div>{} {}</div>").format(said, inline(option.reason)), live=True)
