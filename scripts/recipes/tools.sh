#!/bin/sh
# tools [GROUP...]                     fetch redis, busybox, registry, compose and python (buf, grpcurl, ...) into target/tools

setup_tools "$@"
json_add bin "$(json_text "$TOOLS/bin")"
