"""`llm-eval-runner`: asks a release the questions of the data sets, and says whether it may go on.

Read it in this order:

    rows.py      a row of a data set, and what is wrong with a set (hygiene)
    asking.py    one question to the orchestrator, as its users ask it; several at once
    measures.py  what an answer is worth: one function a metric, a number from 0 to 1 each
    plug.py      the learner's own functions among them, from `metrics.py`
    gatefile.py  gate.yaml: which rows, which floors and drops
    scores.py    means with their spread, the baseline, and the verdict
    judge.py     a small model as a judge, and how far it agrees with people
    deep.py      the same metrics as DeepEval knows them; in the image alone
    runner.py    a run from end to end
    outcome.py   how a run ends: four exit codes, and the words for each

Nothing here knows Kubernetes, and nothing but the judge asks a model past the orchestrator.
"""
