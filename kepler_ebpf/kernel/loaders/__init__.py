"""Ways to load the BPF programs: one module and one line here for each.

A loader's module has ``unusable_reason() -> str | None`` and ``load(request) -> Programs``, which
raises SetupError. ``loaders.choice`` imports it when it is needed.
"""

LOADERS = {"core": "co_re", "bcc": "bcc"}
"""The module of each loader by its name, in the order of preference."""
