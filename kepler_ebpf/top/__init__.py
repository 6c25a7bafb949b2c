"""What uses energy now: the rows of an interval, as text, as records, and on a terminal.

Takes snapshots as an exporter does. Loads nothing and measures nothing.
"""
