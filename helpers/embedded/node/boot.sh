#!/bin/sh
# Inside the node: what an init system would do before its services.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for log in /var/log/*.log; do mv "$log" "$log.1" 2>/dev/null; done
exec >/var/log/boot.log 2>&1
hostname substrate
until ip -4 -o address show dev eth0 | grep -q ' inet '; do sleep 0.02; done
ADDRESS=$(ip -4 -o address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/;q')
printf '127.0.0.1 localhost\n%s substrate\n' "$ADDRESS" >/etc/hosts
: >/etc/resolv.conf
sysctl -qw net.ipv4.ip_forward=1
# What a killed node was still sending is soon given up, and its network with it.
sysctl -qw net.ipv4.tcp_orphan_retries=1
# No pod starts before the rules that guard it: the kubelet comes after this.
nft -f /opt/course/node/base.nft
nft -f /opt/course/helpers/embedded/policy/skeleton.nft
cp -r /opt/course/node/services /run/services
# runsvdir waits a second for a folder that changed within the last one.
touch -d @0 /run/services
exec env -i PATH="$PATH" ADDRESS="$ADDRESS" PYTHONPATH=/opt/course:/opt/course/site-packages \
  PYTHONDONTWRITEBYTECODE=1 HOME=/root LANG=C.UTF-8 runsvdir -P /run/services
