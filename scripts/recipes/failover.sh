#!/bin/sh
# failover [--kills N]                 kill the leader under load, again and again, and time the next one

need_compiler
need_docker
setup_tools redis busybox
setup_images
export_tools
cargo build --bin berth || fail "The build failed."

code=0
logged "$REPORTS/failover.log" \
    cargo run --quiet -p berth-integration-tests --bin failover -- "$@" || code=$?
last=$(tail -n 1 "$REPORTS/failover.log")
case $last in
    '{"recipe":"failover",'*'}') pass_json "$last" ;;
esac
exit "$code"
