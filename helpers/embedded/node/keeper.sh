#!/bin/sh
# The node's only process outside its namespaces: makes its cgroup and its veth pair, starts it,
# waits for its end, and removes the cgroup (all else goes with the namespaces).
#   keeper.sh STATE CGROUP INTERFACE HOST_ADDRESS NODE_ADDRESS INSIDE_ADDRESS LOWER_LAYERS
STATE=$1 CGROUP=$2 INTERFACE=$3 HOST=$4 NODE=$5 INSIDE=$6 LOWER=$7
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=/sys/fs/cgroup
trap '' HUP INT TERM

# One folder per hierarchy: several in cgroup v1, one in v2.
hierarchies() {
  if [ -f $ROOT/cgroup.controllers ]; then echo $ROOT; return; fi
  for folder in $ROOT/*/; do [ -f "$folder/cgroup.procs" ] && echo "${folder%/}"; done
}

make_cgroups() {
  for hierarchy in $(hierarchies); do
    parent=$hierarchy
    # At once down to the node's own folder: a node that ends just now removes `course` when it is empty.
    mkdir -p "$hierarchy/course/$CGROUP"
    for part in course "$CGROUP"; do
      # v2: a cgroup offers the controllers that its parent passes down
      for controller in $(cat "$parent/cgroup.controllers" 2>/dev/null); do
        echo "+$controller" >"$parent/cgroup.subtree_control" 2>/dev/null
      done
      # v1: a new cpuset is empty and takes no process until it is filled
      for file in cpuset.cpus cpuset.mems; do
        if [ -f "$parent/$file" ] && [ -f "$parent/$part/$file" ]; then
          cat "$parent/$file" >"$parent/$part/$file" 2>/dev/null
        fi
      done
      parent=$parent/$part
    done
  done
}

join() { # PID PATH_BELOW_EACH_HIERARCHY
  for hierarchy in $(hierarchies); do echo "$1" >"$hierarchy/$2/cgroup.procs"; done
}

remove_cgroups() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for hierarchy in $(hierarchies); do
      folder=$hierarchy/course/$CGROUP
      [ -d "$folder" ] && find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null
      [ -d "$folder" ] && left=1
      # Goes with the last node; whoever removed the node's own folder first, it is tried.
      rmdir "$hierarchy/course" 2>/dev/null
    done
    [ -z "$left" ] && return
    sleep 0.1
  done
}

make_cgroups
sh -c 'for folder in $0; do echo $$ >"$folder/course/$1/cgroup.procs"; done; shift; exec "$@"' \
  "$(hierarchies)" "$CGROUP" \
  unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child "$HERE/enter.sh" "$STATE" "$LOWER" &
UNSHARE=$!
CHILD=
while [ -z "$CHILD" ] && kill -0 $UNSHARE 2>/dev/null; do
  sleep 0.02
  CHILD=$(cat /proc/$UNSHARE/task/$UNSHARE/children 2>/dev/null)
done
CHILD=${CHILD% }
# Only the node itself may stay in its cgroup: v2 lets no process sit beside child cgroups.
join $UNSHARE .
if [ -n "$CHILD" ]; then
  ip link delete "$INTERFACE" 2>/dev/null
  ip link add "$INTERFACE" type veth peer name eth0 netns "$CHILD"
  ip address add "$HOST/30" dev "$INTERFACE"
  ip link set "$INTERFACE" up
  # No default route: a packet for elsewhere has nowhere to go. Services get a route so that
  # the node's own connections to them reach the rules that translate them. A restored node keeps the
  # address it was made with, for itself alone, beside the one that this machine knows; it comes first.
  nsenter --target "$CHILD" --net sh -c "
    ip link set lo up
    [ $INSIDE = $NODE ] || ip address add $INSIDE/32 dev eth0
    ip address add $NODE/30 dev eth0
    ip link set eth0 up
    ip route add 10.96.0.0/16 via $HOST src $INSIDE"
fi
wait $UNSHARE
# The kernel keeps a dead network until its last connection has timed out; the veth need not wait.
ip link delete "$INTERFACE" 2>/dev/null
remove_cgroups
