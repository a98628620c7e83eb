#!/bin/sh
# bench placement|lives|scale [OPTION...]    measure placement, lives of jobs a second, or how Berth grows (docs/benchmarks.md)

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
    '') usage_error "What is to be measured? ./run bench placement, ./run bench lives, or ./run bench scale" ;;
    *) usage_error "There is no benchmark \"$1\"; there are: placement, lives, scale" ;;
esac
need_compiler
run_program release "$@"
