"""What one command, one group of tasks or each process costs, beside the rest of the machine.

Sums intervals of ``loop.measurer`` for some tasks, runs commands, compares results, and writes them
for people and programs. No exporter and no ledger: nothing here outlives the command.
"""
