#!/bin/sh
# losses [--only NAME,..]              break processes, Redis, Docker and the network, and show what becomes of jobs

need_compiler
need_docker
setup_tools redis busybox
setup_images
export_tools
cargo build --bin berth || fail "The build failed."

code=0
logged "$REPORTS/losses.log" cargo run --quiet -p berth-integration-tests --bin losses -- "$@" || code=$?
last=$(tail -n 1 "$REPORTS/losses.log")
case $last in
    '{"recipe":"losses",'*'}') pass_json "$last" ;;
esac
exit "$code"
