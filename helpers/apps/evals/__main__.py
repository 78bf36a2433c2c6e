"""`python3 -m helpers.apps.evals`: hygiene, gate, baseline, judge. Exit codes: see `outcome`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.apps.evals import judge, measures, rows, runner
from helpers.apps.evals.asking import AT_ONCE, Reply, Target
from helpers.apps.evals.outcome import ConfigurationWrong, EvalsError, Outcome, leave

SETS, GATE, BASELINE = Path("/etc/evals/sets"), Path("/etc/evals/gate"), Path("/etc/evals/baseline/main.json")
LABELS = Path(__file__).with_name("data") / "labels.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A fault of the runner's own is no verdict: it counts as infrastructure."""
    given = _parser().parse_args(arguments)
    try:
        outcome: Outcome | None = given.run(given)
    except EvalsError as error:
        outcome = Outcome.of(error)
    except Exception as error:  # noqa: BLE001 - whatever broke, the gate must not read as passed
        outcome = Outcome("infrastructure", f"the runner failed: {type(error).__name__}: {error}")
    if outcome is None:
        return 0
    leave(outcome)
    print(f"{outcome.verdict}: {outcome.message}", file=sys.stderr, flush=True)
    return outcome.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m helpers.apps.evals", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    hygiene = commands.add_parser("hygiene", help="what is wrong with the data sets, a line each")
    hygiene.add_argument("sets", type=Path, nargs="?", default=SETS)
    hygiene.set_defaults(run=_hygiene)

    gate = commands.add_parser("gate", help="whether a release may go on")
    gate.add_argument("--candidate", required=True, metavar="URL")
    gate.add_argument("--stable", metavar="URL", help="what it is compared with in length")
    _folders(gate)
    gate.add_argument("--baseline", type=Path, default=BASELINE)
    gate.set_defaults(run=_gate)

    baseline = commands.add_parser("baseline", help="the scores of a release, as a file to review and keep")
    baseline.add_argument("--target", required=True, metavar="URL")
    baseline.add_argument("--runs", type=int, default=1, help="how often every row is asked")
    _folders(baseline)
    baseline.set_defaults(run=_baseline)

    judging = commands.add_parser(
        "judge", help="how far a model agrees with people who judged the same answers"
    )
    judging.add_argument("--vllm", required=True, metavar="URL")
    judging.add_argument("--labels", type=Path, default=LABELS)
    judging.add_argument("--model", default="")
    judging.set_defaults(run=_judge)
    return parser


def _folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sets", type=Path, default=SETS)
    parser.add_argument("--gate", type=Path, default=GATE)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _hygiene(given: argparse.Namespace) -> Outcome:
    flaws = rows.hygiene(rows.read_sets(given.sets))
    for flaw in flaws:
        print(flaw)
    if flaws:
        return Outcome("configuration", f"{len(flaws)} flaws in the data sets", [str(flaw) for flaw in flaws])
    return Outcome("pass", "the data sets are clean")


def _gate(given: argparse.Namespace) -> Outcome:
    the_plan = runner.plan(given.sets, given.gate)
    baseline = runner.read_baseline(given.baseline)
    stable = Target(given.stable) if given.stable else None
    return runner.run_gate(
        the_plan,
        baseline,
        Target(given.candidate),
        stable,
        scorer=_scorer(),
        at_once=given.at_once,
        say=_say,
    )


def _baseline(given: argparse.Namespace) -> None:
    the_plan = runner.plan(given.sets, given.gate)
    found = runner.run_baseline(
        the_plan, Target(given.target), runs=given.runs, scorer=_scorer(), at_once=given.at_once, say=_say
    )
    print(found.text(), end="")


def _judge(given: argparse.Namespace) -> None:
    labels = judge.read_labels(given.labels.read_text()) if given.labels.is_file() else []
    if not labels:
        raise ConfigurationWrong(f"empty set: there are no labels in {given.labels}")
    print(json.dumps(judge.measure(given.vllm, labels, model=given.model).told()))


def _scorer() -> Callable[..., float | None]:
    """DeepEval's metrics where it is installed, with the embedding model of the image; the same functions elsewhere.

    Both are loaded when the first answer is judged: a run that nobody answers needs neither.
    """
    loaded: list[tuple[Callable[..., float | None], measures.Similarity]] = []

    def score(name: str, row: rows.Row, reply: Reply, *, functions: measures.Functions) -> float | None:
        if not loaded:
            loaded.append(_loaded())
        by, similarity = loaded[0]
        return by(name, row, reply, functions=functions, similarity=similarity)

    return score


def _loaded() -> tuple[Callable[..., float | None], measures.Similarity]:
    from helpers.stack.embeddings import Embedder

    folder = os.environ.get("EMBEDDING_DIR", "")
    similarity = measures.cosine(Embedder(prepared=Path(folder) if folder else None).embed)
    try:
        from helpers.apps.evals import deep
    except ImportError:
        return measures.score, similarity
    return deep.score, similarity


if __name__ == "__main__":
    sys.exit(main())
