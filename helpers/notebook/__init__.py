"""Everything that draws: what a lab's page is made of.

    lab = open_lab("01", reconnect)                     # never raises; lab.cluster is None without a cluster
    connection_card(lab, reconnect, answers)            # the cluster's badge, its build, or the next command
    apply_panel(lab, manifest, button, pressed=pressed) # dry-run preview, Apply button, result: one cell
    live = grade_now(lab, tick, button)                 # one grading run for the whole page
    board(live, "quota"); scoreboard(live)              # verdicts in words
    guess = predict("…?", {"a": "…"}); reveal(guess.value, truth="a", because="…")
    hints("a nudge", "the way"); quiz([...]); quiz_board(answers, QUESTIONS); layer_picture("substrate")

Buttons, the refresh control and quiz radios are defined in one hidden cell at the end of a notebook,
so that no edit of the learner's re-creates them.
"""

from __future__ import annotations

from helpers.notebook.actions import delete_panel, guard_panel, shape_panel, start_panel
from helpers.notebook.board import LiveReport, board, grade_now, passed, refresh, scoreboard
from helpers.notebook.building import build_card, connection_card
from helpers.notebook.events import event_table, job_table, pod_table
from helpers.notebook.hints import hints
from helpers.notebook.html import card, course, inline, problem_card, table, word
from helpers.notebook.layers import LAYERS, Layer, layer_picture
from helpers.notebook.panel import applied, apply_button, apply_panel, preview
from helpers.notebook.predict import predict, reveal
from helpers.notebook.quiz import Option, Question, quiz, quiz_board
from helpers.notebook.session import LabSession, needs_cluster, no_cluster_card, open_lab, waiting_card

__all__ = [
    "LAYERS",
    "LabSession",
    "Layer",
    "LiveReport",
    "Option",
    "Question",
    "applied",
    "apply_button",
    "apply_panel",
    "board",
    "build_card",
    "card",
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
    "needs_cluster",
    "no_cluster_card",
    "open_lab",
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
    "start_panel",
    "table",
    "waiting_card",
    "word",
]
