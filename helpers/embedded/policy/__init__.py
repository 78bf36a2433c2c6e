"""NetworkPolicy, enforced: compiles `networking.k8s.io/v1` into one nftables table of the node.

This is the course's own engine for a single-node teaching cluster; a real cluster enforces policy in
its CNI. It is held to upstream's NetworkPolicy e2e suite (`make conformance`).

What holds, whatever happens to this daemon:

- the table is replaced in one transaction, so there is no moment without rules;
- it fails closed: a pod has no network until the table knows its address (skeleton.nft, loaded
  before the kubelet starts, knows none), and nothing is loaded until pods, namespaces and policies
  have all been listed;
- rules stay in the kernel when the daemon dies.

Its limits: IPv4 only, as the cluster is (IPv6 from or to pods is dropped); SCTP rules are compiled,
but whether SCTP flows at all is up to the kernel; a connection that was allowed when it was opened
stays open when a policy changes, which the specification leaves to implementations.
"""
