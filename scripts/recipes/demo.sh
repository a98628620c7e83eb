#!/bin/sh
# demo [--keep | --stop [NAME...]] [--grpc-listen A] [--http-listen A]   run a single-machine cluster and a mixed batch of jobs on it

# shellcheck source=scripts/demo.sh
. scripts/demo.sh

if [ "${1:-}" = --stop ]; then
    shift
    need_docker
    stop_clusters "$@"
    exit 0
fi

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
        --stop) usage_error "--stop stands alone, or before the names of clusters to stop." ;;
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
[ ! -e "$DEMOS/$cluster" ] || cluster=$cluster-$(date +%s)
folder=$DEMOS/$cluster
stays=no pid='' client=''

# Leaves nothing of the demo, unless its cluster is to stay.
clean_up() {
    [ -z "$client" ] || kill "$client" 2>/dev/null || :
    [ "$stays" = no ] || return 0
    # In its first instant the process does not have its own command line yet.
    [ -z "$pid" ] || lives "$cluster" "$pid" || kill "$pid" 2>/dev/null || :
    remove_cluster "$cluster"
}

mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9

# What the caller set for clusters of its own must not change what the demo shows.
unset BERTH_RUNTIME BERTH_LEASE BERTH_QUEUE_TIMEOUT BERTH_CLEANUP_AFTER EXECUTOR_ID EXECUTOR_CPUS EXECUTOR_MEMORY \
    SCHEDULER_ID SCHEDULER_RELOAD
say "demo: starting a single-machine cluster (berth dev) with this machine's resources and 2 emulated GPUs"
EXECUTOR_GPUS=a100:2 nohup "$BERTH" dev --cluster "$cluster" --data-dir "$folder" --grpc-listen "$grpc" \
    --http-listen "$http" >"$folder/berth.log" 2>&1 </dev/null 9>&- &
pid=$!
printf '%s\n' "$pid" >"$folder/pid"
waited=0
while [ ! -f "$folder/ready.json" ]; do
    kill -0 "$pid" 2>/dev/null || { cat "$folder/berth.log" >&2; fail "The cluster did not start."; }
    [ "$waited" -lt 600 ] || { cat "$folder/berth.log" >&2; fail "The cluster was not ready within 60 s."; }
    sleep 0.1
    waited=$((waited + 1))
done
say "demo: gRPC on $(ready "$cluster" grpc), REST on $(ready "$cluster" http)"

# In the background, so that a signal to this shell alone does not have to wait for the last job.
code=0
BERTH_ADDR=$(ready "$cluster" grpc) "$BERTH" demo --report "$folder/jobs.json" &
client=$!
wait "$client" || code=$?
client=
[ ! -f "$folder/jobs.json" ] || json_add jobs "$(cat "$folder/jobs.json")"
json_add grpc "$(json_text "$(ready "$cluster" grpc)")"
json_add http "$(json_text "$(ready "$cluster" http)")"

if [ "$keep" = yes ]; then
    printf '\nThe cluster goes on (process %s, data in %s). Try it:\n' "$pid" "$folder"
    printf '  export BERTH_ADDR=%s\n' "$(ready "$cluster" grpc)"
    printf '  %s run berth-job:local echo hello\n' "$BERTH"
    printf '  %s ps -a\n' "$BERTH"
    printf '  curl %s/jobs\n' "$(ready "$cluster" http)"
    printf 'Stop it, and remove what it leaves:\n'
    printf '  ./run demo --stop\n'
    json_add cluster "$(json_text "$cluster")"
    json_add pid "$pid"
    stays=yes
else
    printf '\nNext, a cluster that stays:\n'
    printf '  %s dev\n' "$BERTH"
    printf 'and in another terminal:\n'
    printf '  %s run berth-job:local echo hello\n' "$BERTH"
    printf '  curl -d '\''{"image":"berth-job:local","command":["exit","3"]}'\'' 127.0.0.1:8080/jobs\n'
    printf '  curl 127.0.0.1:8080/jobs\n'
fi
[ "$code" -eq 0 ] || fail "Not every job ended as expected."
