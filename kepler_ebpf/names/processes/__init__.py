"""What /proc says of a process, and the VM that it runs."""
