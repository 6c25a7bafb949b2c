"""Jobs of other processes: what a `run` measures for callers that may not measure themselves.

The loop ends an interval and credits the jobs; a thread of its own speaks with the callers.
"""
