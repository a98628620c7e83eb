#!/bin/sh
# demo [--keep] [--grpc-listen A] [--http-listen A]   run a single-machine cluster and a mixed batch of jobs on it

keep=no
grpc=127.0.0.1:0
http=127.0.0.1:0
while [ $# -gt 0 ]; do
    case $1 in
        --keep)
            keep=yes
            shift
            ;;
        --grpc-listen | --http-listen)
            [ $# -ge 2 ] || usage_error "$1 needs HOST:PORT."
            if [ "$1" = --grpc-listen ]; then grpc=$2; else http=$2; fi
            shift 2
            ;;
        *) usage_error "./run demo does not know \"$1\"." ;;
    esac
done

need_compiler
need_docker
setup_tools busybox
say "demo: building berth (the first time this takes a few minutes)"
cargo build --bin berth || fail "The build failed."
setup_images job
BERTH=$CARGO_OUT/debug/berth
# A name, a folder and ports of its own: demos and other clusters run side by side.
cluster=berth-demo-$$
folder=$ROOT/target/demo/$cluster
mkdir -p "$folder"
pid=

# Reads one value of ready.json, which is written only once the cluster is ready.
ready() { # NAME
    sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$folder/ready.json"
}

# Leaves nothing of the demo: its process, its containers, its folder.
clean_up() {
    [ -n "$pid" ] || return 0
    kill "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
    left=$(docker ps -aq --filter "label=berth.cluster=$cluster")
    # shellcheck disable=SC2086 # One container a word.
    [ -z "$left" ] || docker rm -f $left >/dev/null 2>&1 || :
    rm -rf "$folder"
    pid=
}

# What the caller set for clusters of its own must not change what the demo shows.
unset BERTH_RUNTIME BERTH_LEASE BERTH_QUEUE_TIMEOUT BERTH_CLEANUP_AFTER EXECUTOR_ID EXECUTOR_CPUS EXECUTOR_MEMORY \
    SCHEDULER_ID SCHEDULER_RELOAD
say "demo: starting a single-machine cluster (berth dev) with this machine's resources and 2 emulated GPUs"
EXECUTOR_GPUS=a100:2 nohup "$BERTH" dev --cluster "$cluster" --data-dir "$folder" --grpc-listen "$grpc" \
    --http-listen "$http" >"$folder/berth.log" 2>&1 </dev/null &
pid=$!
waited=0
while [ ! -f "$folder/ready.json" ]; do
    kill -0 "$pid" 2>/dev/null || { cat "$folder/berth.log" >&2; fail "The cluster did not start."; }
    [ "$waited" -lt 600 ] || { cat "$folder/berth.log" >&2; fail "The cluster was not ready within 60 s."; }
    sleep 0.1
    waited=$((waited + 1))
done
say "demo: gRPC on $(ready grpc), REST on $(ready http)"

code=0
BERTH_ADDR=$(ready grpc) "$BERTH" demo --report "$folder/jobs.json" || code=$?
[ ! -f "$folder/jobs.json" ] || json_add jobs "$(cat "$folder/jobs.json")"
json_add grpc "$(json_text "$(ready grpc)")"
json_add http "$(json_text "$(ready http)")"

if [ "$keep" = yes ]; then
    printf '\nThe cluster goes on (process %s, data in %s). Try it:\n' "$pid" "$folder"
    printf '  export BERTH_ADDR=%s\n' "$(ready grpc)"
    printf '  %s run berth-job:local echo hello\n' "$BERTH"
    printf '  %s ps -a\n' "$BERTH"
    printf '  curl %s/jobs\n' "$(ready http)"
    printf 'Stop it, and remove what it leaves:\n'
    printf '  kill %s\n' "$pid"
    printf '  docker ps -aq --filter label=berth.cluster=%s | xargs docker rm -f\n' "$cluster"
    json_add pid "$pid"
    pid=
else
    printf '\nNext, a cluster that stays:\n'
    printf '  %s dev\n' "$BERTH"
    printf 'and in another terminal:\n'
    printf '  %s run berth-job:local echo hello\n' "$BERTH"
    printf '  curl -d '\''{"image":"berth-job:local","command":["exit","3"]}'\'' 127.0.0.1:8080/jobs\n'
    printf '  curl 127.0.0.1:8080/jobs\n'
fi
[ "$code" -eq 0 ] || fail "Not every job ended as expected."
