"""Simulated GPUs, advertised where Kubernetes expects real ones: over the kubelet's device-plugin API.

The API server's quota, the scheduler's `Insufficient nvidia.com/gpu`, the kubelet's allocation and
the loss of an unhealthy device are then Kubernetes' own behaviour. Only the silicon is missing, and
every place that shows a device says so: labels and annotation of the node, annotation of the container.
"""
