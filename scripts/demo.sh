# shellcheck shell=sh
# Sourced by the recipe demo: the clusters that demos start, and their end.
#
# Each has a folder target/demo/NAME, with its process id in `pid` and its own files. Whoever works on
# a cluster holds the folder's lock, so that --stop leaves alone what another demo is still busy with.

DEMOS=$ROOT/target/demo

# Reads one value of ready.json, which a cluster writes once it is ready.
ready() { # NAME KEY
    sed -n "s/^ *\"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$DEMOS/$1/ready.json"
}

# Says whether the process of a cluster lives: one that has its id by chance does not name the cluster.
lives() { # NAME PID
    cat "/proc/$2/cmdline" 2>/dev/null | tr '\0' '\n' | grep -qxF -e "$1"
}

# Names the process of a cluster; nothing where there is none any more.
process_of() { # NAME
    found=$(cat "$DEMOS/$1/pid" 2>/dev/null) || found=$(ready "$1" pid 2>/dev/null) || return 0
    [ -z "$found" ] || ! lives "$1" "$found" || printf '%s' "$found"
}

# Ends the process of a cluster, after 30 s by force.
end_process() { # NAME PID
    kill "$2" 2>/dev/null || :
    waited=0
    while lives "$1" "$2"; do
        [ "$waited" -lt 300 ] || kill -9 "$2" 2>/dev/null || :
        sleep 0.1
        waited=$((waited + 1))
    done
}

# Leaves nothing of a cluster, neither process nor containers nor folder. Sets process to what was
# stopped, and containers to how many were removed. Where that fails the folder stays, to try again.
remove_cluster() { # NAME
    process=$(process_of "$1") containers=0
    [ -z "$process" ] || end_process "$1" "$process"
    # What the engine was just asked for may appear only while the first are being removed.
    for _ in 1 2 3; do
        left=$(docker ps --all --quiet --filter "label=berth.cluster=$1") || return 1
        [ -n "$left" ] || break
        # shellcheck disable=SC2086 # One container a word.
        removed=$(docker rm --force --volumes $left 2>/dev/null) || :
        containers=$((containers + $(printf '%s' "$removed" | grep -c . || :)))
    done
    [ -z "$left" ] || {
        say "Containers of $1 are left: docker ps -a --filter label=berth.cluster=$1"
        return 1
    }
    rm -rf "${DEMOS:?}/$1"
}

# Stops the named clusters, or all that are kept, and tells what it removes.
stop_clusters() { # [NAME...]
    for name in "$@"; do
        case $name in
            berth-demo-*[!a-z0-9-]* | berth-demo-) usage_error "\"$name\" is not the name of a demo cluster." ;;
            berth-demo-*) [ -d "$DEMOS/$name" ] || fail "There is no demo cluster \"$name\" of this clone." ;;
            *) usage_error "\"$name\" is not the name of a demo cluster." ;;
        esac
    done
    [ $# -gt 0 ] || for folder in "$DEMOS"/berth-demo-*/; do
        [ ! -d "$folder" ] || set -- "$@" "$(basename "$folder")"
    done
    stopped=0 all_containers=0 failed=no
    for name in "$@"; do
        exec 9>"$DEMOS/$name/lock"
        flock -n 9 || {
            printf 'Left %s: its demo is still under way.\n' "$name"
            continue
        }
        remove_cluster "$name" || {
            failed=yes
            continue
        }
        stopped=$((stopped + 1))
        all_containers=$((all_containers + containers))
        printf 'Removed %s: %s, containers: %s, and its folder.\n' "$name" \
            "$([ -z "$process" ] && echo 'its process had ended' || echo "process $process")" "$containers"
    done
    [ $# -gt 0 ] || printf 'No demo cluster of this clone is kept.\n'
    json_add stopped "$stopped"
    json_add containers "$all_containers"
    [ "$failed" = no ] || fail "Not every cluster could be removed; try again."
}
