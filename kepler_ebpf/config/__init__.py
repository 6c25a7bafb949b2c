"""What a user can set: the table of options, their parsers, and the reader of YAML files.

The allowed words come from the light registries of the rooms below (levels, zone kinds, meters,
loaders, v1 controllers), so that ``--help`` imports no numpy. ``wiring`` passes the values on.
"""
