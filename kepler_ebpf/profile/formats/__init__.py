"""Files that viewers of profiles read. Each module writes one kind from a ``Profile``."""
