"""`llm-jobs` and `llm-worker`: a question is taken at once and answered later, once, whatever ends in between.

Read it in this order:

    decisions.py   the plug points: what they are asked, and what they may say
    store.py       everything that is kept in Redis: the stream, the jobs, the dead letters
    kafka_stream.py  the stream in Kafka instead, for whoever switches to it (JOBS_QUEUE)
    delivery.py    what happens to one entry of the stream
    answering.py   what happens to one question: the cache, one generation for many askers, vLLM
    worker.py      reading, taking over, renewing, and the end of a process
    front.py       HTTP: what is accepted, refused, and told of a job
"""
