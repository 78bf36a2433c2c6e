"""A learner's decision: what is wrong with it is told in one sentence, before the first request."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.apps.orchestrator import defaults
from helpers.apps.orchestrator.decisions import (
    CLASSES,
    PLUG_POINTS,
    DecisionWrong,
    Degradation,
    Failure,
    Request,
    load,
)
from helpers.apps.orchestrator.mounted import Decisions

STANDARD = CLASSES["standard"]
FUTURE = "from __future__ import annotations\n\n"


def said_of(file: str, source: str) -> str:
    with pytest.raises(DecisionWrong) as wrong:
        load(file, source.encode())
    return str(wrong.value)


def mounted(folder: Path, **files: str) -> Decisions:
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source)
    return Decisions(folder)


WRONG = {
    "a word that is no Python": (
        "budget.py",
        "def hop_deadline_ms(budget, hop, left_ms:\n",
        "budget.py line 1: ",
    ),
    "another name": (
        "retry.py",
        "def retry(failure): return True",
        "there is no function worth_a_retry(failure)",
    ),
    "another signature": (
        "budget.py",
        "\ndef hop_deadline_ms(budget, hop): return 1",
        "budget.py line 2: it is hop_deadline_ms(budget, hop), not hop_deadline_ms(budget, hop, left_ms)",
    ),
    "a second function missing": (
        "circuit.py",
        "def circuit_of(backend): return backend",
        "no function opens(outcomes)",
    ),
    "an exception": (
        "degrade.py",
        "def degrade(failure, product):\n    return kinds[product]",
        "degrade.py line 2: NameError: name 'kinds' is not defined",
    ),
    "no number": (
        "budget.py",
        "def hop_deadline_ms(budget, hop, left_ms): return None",
        "returned None, not a number",
    ),
    "no time": ("budget.py", "def hop_deadline_ms(budget, hop, left_ms): return 0", "no time at all"),
    "True for a number": (
        "budget.py",
        "def hop_deadline_ms(budget, hop, left_ms): return True",
        "returned True",
    ),
    "1 for True": ("retry.py", "def worth_a_retry(failure): return 1", "returned 1, not True or False"),
    "an unknown kind": (
        "degrade.py",
        "def degrade(failure, product): return Degradation('shrug')",
        "returned kind 'shrug', which is none of refuse, general_answer, stored_answer, continue",
    ),
    "texts for messages": (
        "window.py",
        "def trim(messages, room, count): return ['hello']",
        "among the messages",
    ),
    "a clock": (
        "idempotency.py",
        "import time\ndef idempotency_key(request): return str(time.time())",
        "idempotency.py line 1: ImportError: a decision may not import time",
    ),
    "a clock, later": (
        "idempotency.py",
        "def idempotency_key(request):\n    from datetime import datetime\n    return str(datetime.now())",
        "idempotency.py line 2: ImportError: a decision may not import datetime",
    ),
    "another answer each time": (
        "admission.py",
        "calls = []\ndef admit(tenant, waiting, limit):\n    calls.append(1)\n    return len(calls) % 2 == 0",
        "answers the same question in two ways",
    ),
    "a file": (
        "retry.py",
        "def worth_a_retry(failure): return bool(open('/etc/passwd'))",
        "name 'open' is not defined",
    ),
    "no end": ("retry.py", "def worth_a_retry(failure):\n    while True: pass", "it takes more than 0.5 s"),
}


@pytest.mark.parametrize(("file", "source", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_decision_is_named_with_file_line_and_cause(file: str, source: str, sentence: str) -> None:
    said = said_of(file, source)
    assert sentence in said and said.startswith(file) and "\n" not in said


def test_annotations_in_the_course_s_own_types_are_read() -> None:
    source = FUTURE + "def worth_a_retry(failure: Failure) -> bool:\n    return failure.status == 503\n"
    assert load("retry.py", source.encode())["worth_a_retry"](Failure("failed", "vllm", 503)) is True


def test_types_may_be_imported_as_an_editor_wants_them() -> None:
    source = "from helpers.apps.orchestrator.decisions import Degradation\ndef degrade(failure, product): return Degradation('refuse')"
    assert load("degrade.py", source.encode())


def test_the_course_s_own_decisions_pass_what_learners_must_pass() -> None:
    source = Path(defaults.__file__).read_bytes()
    for point in PLUG_POINTS:
        assert point.name in load(point.file, source)


def test_a_mounted_decision_is_asked_and_a_missing_file_is_the_course_s(tmp_path: Path) -> None:
    decisions = mounted(tmp_path, admission="def admit(tenant, waiting, limit): return tenant == 'a'")
    assert decisions.ask("admit", "a", {}, 0) is True
    assert decisions.ask("opens", [False] * 5) is True
    assert not decisions.problems
    assert decisions.sources["admission.py"] and not decisions.sources["circuit.py"]


def test_a_wrong_file_is_a_problem_and_the_course_s_own_decides_meanwhile(tmp_path: Path) -> None:
    decisions = mounted(tmp_path, retry="def worth_a_retry(failure): return 'yes'")
    assert decisions.problems == ["retry.py line 1: worth_a_retry returned 'yes', not True or False"]
    assert decisions.ask("worth_a_retry", Failure("failed", "vllm", 500)) is False


def test_a_decision_that_fails_on_a_request_is_replaced_for_that_once_and_counted(tmp_path: Path) -> None:
    (tmp_path / "budget.py").write_text(
        "def hop_deadline_ms(budget, hop, left_ms): return 1000 + 0 // (left_ms - 7)"
    )
    failed: list[str] = []
    decisions = Decisions(tmp_path, failed.append)
    assert decisions.ask("hop_deadline_ms", STANDARD, "retrieve", 7) > 0
    assert failed == ["hop_deadline_ms"]
    assert decisions.ask("hop_deadline_ms", STANDARD, "retrieve", 8) == 1000


# -- the course's own ---------------------------------------------------------------------------


def test_the_planned_hops_of_class_standard() -> None:
    shares = {hop: defaults.hop_deadline_ms(STANDARD, hop, 35_000) for hop in ("load", "retrieve", "record")}
    assert shares == {"load": 250, "retrieve": 800, "record": 500}
    assert defaults.hop_deadline_ms(STANDARD, "generate", 30_000) == 29_500


def test_no_hop_gets_more_than_is_left() -> None:
    for hop in ("load", "retrieve", "assemble", "generate", "record"):
        assert 1 <= defaults.hop_deadline_ms(STANDARD, hop, 100) <= 100


def test_the_key_knows_everything_that_makes_a_request_the_same_and_nothing_else() -> None:
    first = Request("docs", "t-1", "k", "why?", "req-1")
    again = Request("docs", "t-1", "k", "why?", "req-2")
    others = [
        Request("other", "t-1", "k", "why?", "req-1"),
        Request("docs", "t-2", "k", "why?", "req-1"),
        Request("docs", "t-1", "l", "why?", "req-1"),
        Request("docs", "t-1", "k", "how?", "req-1"),
    ]
    assert defaults.idempotency_key(first) == defaults.idempotency_key(again)
    assert len({defaults.idempotency_key(request) for request in [first, *others]}) == 5


def talk(turns: int) -> list[dict[str, str]]:
    said = [{"role": role, "content": f"{role} {n}"} for n in range(turns) for role in ("user", "assistant")]
    return [{"role": "system", "content": "rules"}, *said, {"role": "user", "content": "the question"}]


@pytest.mark.parametrize("room", [1, 20, 30, 55, 1000])
def test_the_window_keeps_the_system_message_and_the_last_turns(room: int) -> None:
    messages = talk(6)
    kept = defaults.trim(messages, room, lambda some: 10 * len(some))
    assert kept[0]["role"] == "system" and kept[-1]["content"] == "the question"
    assert kept[1:] == messages[len(messages) - len(kept) + 1 :]
    assert 10 * len(kept) <= max(room, 20)


def test_refusing_is_labelled_too() -> None:
    assert defaults.degrade(Failure("timed_out", "qdrant"), "compliance") == Degradation(
        "refuse", "qdrant timed_out"
    )
