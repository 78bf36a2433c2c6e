"""A learner's seat in a class: namespaces, quotas, rights, kubeconfig, turns on a shared GPU."""
