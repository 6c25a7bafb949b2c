"""Names of what used energy: cgroups, containers, processes, VMs and pods.

Everything that reads text from outside is here: cgroup paths, /proc, files of runtimes, the
Kubernetes API. No part of it raises for what it reads, and no interval waits for it.
"""
