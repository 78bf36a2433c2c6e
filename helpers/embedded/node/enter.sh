#!/bin/sh
# First process of the node's namespaces: builds its root and becomes its PID 1.
#   enter.sh STATE LOWER_LAYERS
set -e
STATE=$1 LOWER=$2
NODE=$STATE/root
CGROUP=/sys/fs/cgroup

mount --make-rprivate /
mkdir -p "$STATE/upper" "$STATE/work" "$NODE"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$STATE/upper,workdir=$STATE/work" "$NODE"
cd "$NODE"
mkdir -p proc sys dev run tmp outside etc/course

# What outlives a boot lies in real folders (an overlay cannot be the upper layer of another one);
# the root itself is fresh each time.
for folder in etc/course etc/kubernetes var/lib/containerd var/lib/etcd var/lib/kubelet var/local/fast-nvme var/log; do
  mkdir -p "$STATE/data/$folder" "$folder"
  mount --bind "$STATE/data/$folder" "$folder"
done
mount --make-rshared var/lib/kubelet

mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
# Addresses handed to pods of a former boot are free again.
mkdir -p var/lib/cni
mount -t tmpfs -o mode=755 tmpfs var/lib/cni
mount -t sysfs -o nosuid,nodev,noexec sysfs sys

# Devices of its own: the host's terminals and shared memory are not the node's.
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm dev/mqueue dev/net
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
while read -r name major minor; do
  mknod -m 666 "dev/$name" c "$major" "$minor"
done <<LIST
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
kmsg 1 11
tty 5 0
fuse 10 229
net/tun 10 200
LIST
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
ln -s pts/ptmx dev/ptmx

# The kubelet would set these for the whole machine; it leaves alone what reads as it wants.
mkdir run/sysctl
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=${setting%=*}
  [ -f "proc/sys/$file" ] || continue
  copy=run/sysctl/$(echo "$file" | tr / .)
  echo "${setting#*=}" >"$copy"
  mount --bind "$copy" "proc/sys/$file"
done

# Cgroups as seen from the node's own root: it neither sees nor touches anybody else's.
if [ -f $CGROUP/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mkdir sys/fs/cgroup/init
  echo $$ >sys/fs/cgroup/init/cgroup.procs
  for _ in $(seq 100); do # until keeper.sh has moved the last outsider out
    sed 's/[^ ]*/+&/g' sys/fs/cgroup/cgroup.controllers >sys/fs/cgroup/cgroup.subtree_control 2>/dev/null && break
    sleep 0.02
  done
else
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  while IFS=: read -r _ controllers _; do
    case $controllers in
    "") mkdir sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 sys/fs/cgroup/unified ;;
    name=*) folder=${controllers#name=}
      mkdir "sys/fs/cgroup/$folder" && mount -t cgroup -o "none,$controllers" cgroup "sys/fs/cgroup/$folder" ;;
    *) mkdir "sys/fs/cgroup/$controllers" && mount -t cgroup -o "$controllers" cgroup "sys/fs/cgroup/$controllers"
      case $controllers in
      *,*) for one in $(echo "$controllers" | tr , ' '); do ln -s "$controllers" "sys/fs/cgroup/$one"; done ;;
      esac ;;
    esac
  done </proc/self/cgroup
fi

pivot_root . outside
umount -l /outside
mount --make-rshared /
# The folder's name in the arguments is how `course` finds the node again.
exec /usr/bin/catatonit -- /opt/course/node/boot.sh "$STATE"
