"""From the id of a cgroup to its path, and from the path to container, pod and unit."""
