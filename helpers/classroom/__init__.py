"""The classroom: learners of a roster on one shared cluster, or each on a cluster of their own.

A class is a folder of the instructor's (`folder.py`); what it holds for each learner on a cluster is
built by `membership.py` and bounded by `rights.py`.
"""
