#!/bin/sh
# bench placement|lives|scale|containers [OPTION...]    measure, each beside its limit (docs/benchmarks.md)

case ${1:-} in
    placement) ;;
    lives)
        setup_tools redis
        export_tools
        need_compiler
        cargo build --release --quiet -p berth --bin berth || fail "The build failed."
        cargo build --release --quiet -p berth-integration-tests --bin redis-limit || fail "The build failed."
        ;;
    scale)
        setup_tools redis
        export_tools
        need_compiler
        cargo build --release --quiet -p berth --bin berth || fail "The build failed."
        ;;
    containers)
        need_compiler
        need_docker
        setup_tools redis busybox
        setup_images
        export_tools
        cargo build --release --quiet -p berth --bin berth || fail "The build failed."
        ;;
    '') usage_error "What is to be measured? ./run bench placement, lives, scale or containers" ;;
    *) usage_error "There is no benchmark \"$1\"; there are: placement, lives, scale, containers" ;;
esac
need_compiler
run_program release "$@"
