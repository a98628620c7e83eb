#!/bin/sh
# latency [--runs N]                   compare `berth run` with `docker run`, the same container each time

need_compiler
need_docker
setup_tools redis busybox
setup_images
export_tools
cargo build --release --quiet -p berth --bin berth || fail "The build failed."

code=0
logged "$REPORTS/latency.log" \
    cargo run --release --quiet -p berth-integration-tests --bin latency -- "$@" || code=$?
last=$(tail -n 1 "$REPORTS/latency.log")
case $last in
    '{"recipe":"latency",'*'}') pass_json "$last" ;;
esac
exit "$code"
