"""Whose energy it is: processes, cgroups, containers, virtual machines and pods by name."""
