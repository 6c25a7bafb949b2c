"""The kinds of energy zones: the words that metrics, settings and meters share."""

ZONE_KINDS = ("package", "core", "uncore", "dram", "psys")
"""Every kind, as metrics name it."""
