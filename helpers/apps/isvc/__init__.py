"""The course's own controller for KServe's InferenceService and ServingRuntime, on kopf. It is not KServe.

decisions   what the learner writes: six pure functions, and how their file is read
course      the same functions as the course has them until then: they touch nothing
passes      one pass: read what is there, ask the functions, apply what they want, say what was seen
api         the few calls to the API server
operator    kopf: what is watched, and when a pass begins
"""
