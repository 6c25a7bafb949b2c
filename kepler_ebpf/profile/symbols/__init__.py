"""Names of functions, from files, from running processes and from the kernel."""
