"""The cluster on this machine: upstream Kubernetes in a sandbox of namespaces.

Import nothing here: the node's own daemons live below this package and must start quickly.
"""
