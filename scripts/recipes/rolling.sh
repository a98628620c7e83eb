#!/bin/sh
# rolling                              restart every replica and executor in turn while clients work

need_compiler
need_docker
setup_tools redis busybox
setup_images
export_tools
cargo build --bin berth || fail "The build failed."

code=0
logged "$REPORTS/rolling.log" \
    cargo run --quiet -p berth-integration-tests --bin rolling -- "$@" || code=$?
last=$(tail -n 1 "$REPORTS/rolling.log")
case $last in
    '{"recipe":"rolling",'*'}') pass_json "$last" ;;
esac
exit "$code"
