"""Where pods are learned from: the API server (a watch) or the node's kubelet (polled).

``index`` and ``pod_infos`` are plain data. Everything else is imported only where Kubernetes is on.
"""
