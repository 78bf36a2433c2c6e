"""Everything that draws: what a lab's page is made of.

    lab, acted = open_page("01", reconnect.value)       # never raises; lab.cluster is None without a cluster
    connection_card(lab, reconnect, answers)            # the cluster's badge, its build, or the next command
    look(lab, tick, acted)                              # one grading run for the whole page, again and again
    lab.live(board, "quota"); lab.live(scoreboard, parts)  # verdicts in words, redrawn when they change
    lab.live(bar, parts)                                # points, parts and the next open one, always in sight
    lab.live(preview, manifest)                         # what the cell's text would change, as fresh as the board
    apply_panel(lab, manifest, button)                  # Apply button, and what became of it
    by_hand(lab, "kubectl get pods -n llm-system")      # what to type in the page's terminal, on this cluster
    guess = predict("…?", {"a": "…"}); reveal(guess.value, truth="a", because="…")
    lab.live(task_hints, "quota", "a nudge", "the way")  # the first begins with what the task's checks saw
    hints("a nudge", "the way"); quiz([...]); quiz_board(answers, QUESTIONS); layer_picture("substrate")

Buttons and quiz radios are defined in hidden cells at the end of a notebook, so that no edit of the
learner's re-creates them. Buttons that one panel shows together are one `mo.ui.dictionary`.
"""

from __future__ import annotations

from helpers.notebook.actions import delete_panel, guard_panel, shape_panel, start_panel
from helpers.notebook.board import bar, board, once_passed, passed, refresh, scoreboard
from helpers.notebook.building import build_card, connection_card
from helpers.notebook.by_hand import by_hand, client_yaml
from helpers.notebook.events import event_table, job_table, pod_table
from helpers.notebook.hints import hints, task_hints
from helpers.notebook.html import card, code, course, inline, note, problem_card, spinner, table, word
from helpers.notebook.layers import LAYERS, Layer, layer_picture
from helpers.notebook.looks import LiveReport
from helpers.notebook.panel import applied, apply_button, apply_panel, preview
from helpers.notebook.parts import Part
from helpers.notebook.predict import predict, reveal
from helpers.notebook.quiz import Option, Question, quiz, quiz_board
from helpers.notebook.session import (
    LabSession,
    grade_now,
    look,
    needs_cluster,
    no_cluster_card,
    open_lab,
    open_page,
    titled,
    waiting_card,
)

__all__ = [
    "LAYERS",
    "LabSession",
    "Layer",
    "LiveReport",
    "Option",
    "Part",
    "Question",
    "applied",
    "apply_button",
    "apply_panel",
    "bar",
    "board",
    "build_card",
    "by_hand",
    "card",
    "client_yaml",
    "code",
    "connection_card",
    "course",
    "delete_panel",
    "event_table",
    "grade_now",
    "guard_panel",
    "hints",
    "inline",
    "job_table",
    "layer_picture",
    "look",
    "needs_cluster",
    "no_cluster_card",
    "note",
    "once_passed",
    "open_lab",
    "open_page",
    "passed",
    "pod_table",
    "predict",
    "preview",
    "problem_card",
    "quiz",
    "quiz_board",
    "refresh",
    "reveal",
    "scoreboard",
    "shape_panel",
    "spinner",
    "start_panel",
    "table",
    "task_hints",
    "titled",
    "waiting_card",
    "word",
]
