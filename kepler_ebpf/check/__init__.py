"""What this host offers and lacks: the verb `check`.

One function for each finding: what is judged, and the remedy where it is missing. A thing that ends
`run` is tried here through the code of `run` itself. Nothing is changed on the host.
"""
