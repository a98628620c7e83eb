#!/bin/sh
# bulk [--jobs N]                      submit 500 real jobs at once, three ways, and account for each

jobs=500
while [ $# -gt 0 ]; do
    case $1 in
        --jobs)
            [ $# -ge 2 ] || usage_error "--jobs needs a number."
            jobs=$2
            shift 2
            ;;
        *) usage_error "./run bulk does not know \"$1\"." ;;
    esac
done

need_compiler
need_docker
setup_tools redis busybox
setup_images
export_tools
export BERTH_BULK_JOBS="$jobs"
json_add jobs "$jobs"
logged "$REPORTS/bulk.log" cargo test -p berth-integration-tests --test e2e -- --test-threads 1 bulk:: ||
    fail "Not every job was accounted for."
