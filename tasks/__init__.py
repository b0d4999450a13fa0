"""The effects of a run: each task reads, calls lanewise, writes, and returns a small record.

Retries, reuse of stage results, artifacts, locks and the life cycle of MLflow runs are here; the order is
in flows/, the work in lanewise/.
"""
