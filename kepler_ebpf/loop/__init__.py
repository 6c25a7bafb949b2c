"""The loop: when an interval ends, what it holds, and the snapshot that readers get.

Calls the tracker, the meter, the attribution and the ledger in their order. Runs in one thread;
only ``publisher`` is read by others.
"""
