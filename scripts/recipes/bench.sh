#!/bin/sh
# bench placement [OPTION...]          measure placement policies on a production trace (docs/benchmarks.md)

case ${1:-} in
    placement) ;;
    '') usage_error "What is to be measured? ./run bench placement" ;;
    *) usage_error "There is no benchmark \"$1\"; there is: placement" ;;
esac
need_compiler
run_program release "$@"
