#!/bin/sh
# bench placement|lives [OPTION...]    measure placement on a production trace, or lives of jobs a second (docs/benchmarks.md)

case ${1:-} in
    placement) ;;
    lives)
        setup_tools redis
        export_tools
        need_compiler
        cargo build --release --quiet -p berth --bin berth || fail "The build failed."
        cargo build --release --quiet -p berth-integration-tests --bin redis-limit || fail "The build failed."
        ;;
    '') usage_error "What is to be measured? ./run bench placement, or ./run bench lives" ;;
    *) usage_error "There is no benchmark \"$1\"; there are: placement, lives" ;;
esac
need_compiler
run_program release "$@"
