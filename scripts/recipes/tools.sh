#!/bin/sh
# tools [GROUP...]                     fetch redis, busybox, registry and python (buf, grpcurl, grpcio-tools) into target/tools

setup_tools "$@"
json_add bin "$(json_text "$TOOLS/bin")"
