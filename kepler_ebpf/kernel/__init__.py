"""The kernel's side of the account: load the BPF programs, close intervals, drain the maps."""
