#!/usr/bin/python3
"""`vllm`, as its own console script starts it, quicker on a small CPU and ready to end while it loads."""

import gc
import os
import signal

# A container's first process has no default action for SIGTERM: until vLLM sets its own handler, a pod
# that is still loading would sit out its whole grace period.
signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
# Collecting garbage while 4,800 modules are imported costs a second and finds none.
gc.disable()

import multiprocessing  # noqa: E402
import sys  # noqa: E402
from functools import partial  # noqa: E402

from vllm.entrypoints.cli.main import main  # noqa: E402
from vllm.v1.engine import utils as engine  # noqa: E402

gc.freeze()
gc.enable()

# vLLM's CPU platform starts its engine as a new Python process, which imports PyTorch and vLLM a second
# time (7 of 19 s). Nothing computes before that moment, so the engine can be forked: vLLM's own default
# for VLLM_WORKER_MULTIPROC_METHOD, which its CPU platform overwrites.
engine.get_mp_context = partial(multiprocessing.get_context, "fork")

if __name__ == "__main__":
    sys.exit(main())
