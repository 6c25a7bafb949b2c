"""The executable of a process and the VM that it runs, from exec events and /proc."""
