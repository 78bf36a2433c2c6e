"""`llm-orchestrator`: one entry point in front of vLLM and Qdrant, with deadlines, state and a failure policy.

Read it in this order:

    decisions.py   the plug points: what they are asked, and how a learner's file is read
    graph.py       what happens to one question: retrieve, assemble, generate, record
    runs.py        a run of the graph: admission, idempotency, leases, resuming what a dead pod left
    state.py       everything that is kept in Redis, one round trip a step
    backends.py    vLLM and Qdrant, and what their failures mean
    tracing.py     a tree of spans for each question, where somebody takes them
    api.py         HTTP: routes, errors, streams
"""
