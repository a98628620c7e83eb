#!/bin/sh
# chaos [--minutes N] [--seed N]       break a running cluster of real processes for so long, and judge what became of it

# Where these are is often only on root's path.
export PATH="$PATH:/usr/sbin:/sbin"
for needed in ip iptables tc unshare nsenter; do
    have "$needed" || missing "$needed is missing: chaos makes hosts of network namespaces (iproute2, iptables, util-linux)."
done
measure chaos "$@"
