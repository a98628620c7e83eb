#!/bin/sh
# bench all|placement|lives|control|scale|containers [OPTION...]    measure, each beside its limit (docs/benchmarks.md)

# Runs one benchmark as a recipe of its own, and keeps its closing line.
measured() { # RECIPE [OPTION...]
    say "--- ./run $*"
    "$ROOT/run" "$@" >"$REPORTS/bench-one.txt" || failed="$failed $*;"
    cat "$REPORTS/bench-one.txt"
    tail -n 1 "$REPORTS/bench-one.txt" >>"$REPORTS/bench-all.jsonl"
}

# All figures, one after the other: each program prints its conditions and its limit in the same run.
all_figures() { # [--quick] [--plots FOLDER]
    plots=$REPORTS/plots quick=no failed=
    while [ $# -gt 0 ]; do
        case $1 in
            --quick) quick=yes ;;
            --plots)
                [ $# -gt 1 ] || usage_error "--plots has no folder."
                shift
                case $1 in
                    /*) plots=$1 ;;
                    *) plots=$BERTH_CALLER_DIR/$1 ;;
                esac
                ;;
            *) usage_error "usage: ./run bench all [--quick] [--plots FOLDER]" ;;
        esac
        shift
    done
    mkdir -p "$REPORTS"
    : >"$REPORTS/bench-all.jsonl"
    # The quick form shows that all of it works; its figures mean little.
    if [ "$quick" = yes ]; then
        set -- --seconds 5 --limit-seconds 3
        measured bench control --runs 100 --rates 200 --seconds 3
        measured bench scale --sessions 1000 --pending 10000
        measured bench containers --jobs 8 --rounds 1
        measured latency --runs 3
        measured bench placement --pods default --policy ours --seeds 0-0
    else
        set --
        measured bench control
        measured bench control --replicas 3 --rates 500 --seconds 5
        measured bench scale
        measured bench containers
        measured latency --runs 60
        measured bench placement --pods default gpuspec33 multigpu50 cpu250 --policy all --seeds 0-9
    fi
    measured bench lives "$@"
    measured bench lives "$@" --replicas 3
    measured bench lives "$@" --fsync always
    need_compiler
    cargo run --release --quiet -p berth-integration-tests --bin figures -- "$REPORTS/bench-all.jsonl" "$plots" >&2 ||
        failed="$failed figures;"
    json_add bench '"all"'
    json_add figures "[$(paste -s -d , "$REPORTS/bench-all.jsonl")]"
    [ -z "$failed" ] || fail "Not as it should be:$failed"
}

case ${1:-} in
    all)
        shift
        all_figures "$@"
        exit 0
        ;;
    placement) ;;
    lives | control)
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
    '') usage_error "What is to be measured? ./run bench all, placement, lives, control, scale or containers" ;;
    *) usage_error "There is no benchmark \"$1\"; there are: all, placement, lives, control, scale, containers" ;;
esac
need_compiler
run_program release "$@"
