"""What a user can set: the table of options, their parsing, and a YAML file.

Takes the allowed words from the registries of the parts (meters, loaders, levels). No part imports
this package: ``wiring`` hands each part its values.
"""
