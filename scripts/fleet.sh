# shellcheck shell=sh
# Sourced by the recipes of the fleet: which compose tool runs it, what belongs to it, who leads.
#
# BERTH_PROJECT (default berth-fleet) names the compose project, and the cluster too unless
# BERTH_CLUSTER does; BERTH_COMPOSE is the compose tool to use. deploy/compose.yaml lists the rest.

PROJECT=${BERTH_PROJECT:-berth-fleet}
case $PROJECT in
    [a-z0-9]*) ;;
    *) usage_error "BERTH_PROJECT=$PROJECT must begin with a letter or a digit." ;;
esac
case $PROJECT in
    *[!a-z0-9_-]*) usage_error "BERTH_PROJECT=$PROJECT may hold lower-case letters, digits, - and _ only." ;;
esac
export BERTH_CLUSTER="${BERTH_CLUSTER:-$PROJECT}"
case ${DOCKER_HOST:-} in
    unix://*) export BERTH_DOCKER_SOCKET="${BERTH_DOCKER_SOCKET:-${DOCKER_HOST#unix://}}" ;;
esac

# How long a fleet may take to be healthy and led.
PATIENCE_SECONDS=${BERTH_FLEET_PATIENCE:-180}
# shellcheck disable=SC2034 # For the recipes.
ALL_SERVICES='redis scheduler-1 scheduler-2 scheduler-3 executor-1 executor-2 executor-3'

# --- the compose tool ---

# Prefers what the machine has, and fetches one where it has none.
find_compose() {
    if [ -n "${BERTH_COMPOSE:-}" ]; then
        compose_tool=$BERTH_COMPOSE
    elif docker compose version >/dev/null 2>&1; then
        compose_tool='docker compose'
    elif docker-compose version >/dev/null 2>&1; then
        compose_tool=docker-compose
    else
        setup_tools compose
        compose_tool=$TOOLS/bin/docker-compose
    fi
    compose_version=$(run_compose version --short 2>/dev/null) || missing "\"$compose_tool\" is not a working Docker Compose."
    json_add compose "$(json_text "$compose_version")"
}

run_compose() {
    if [ "$compose_tool" = 'docker compose' ]; then docker compose "$@"; else "$compose_tool" "$@"; fi
}

# Runs compose on the fleet; what it tells of its progress matters only where it fails.
compose() {
    compose_says=$(run_compose --project-name "$PROJECT" --file deploy/compose.yaml "$@" 2>&1) || {
        printf '%s\n' "$compose_says" | tail -n 20 >&2
        case $compose_says in
            *'port is already allocated'* | *'address already in use'*)
                say "Another program uses a port of the fleet: stop it, or set BERTH_HTTP_1..3 and BERTH_GRPC_1..3 (0 takes a free one)."
                ;;
            *)
                # shellcheck disable=SC2046 # One service a word.
                tell_last_lines $(unhealthy $(present_services) | cut -d : -f 1)
                ;;
        esac
        fail "Docker Compose could not do it (\"$compose_tool\")."
    }
}

# --- what belongs to the fleet, whichever tool brought it up ---

# Lists the containers of the project, or of some of its services, running or not.
containers() { # [SERVICE...]
    if [ $# -eq 0 ]; then
        docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT"
    else
        for service in "$@"; do
            docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT" \
                --filter "label=com.docker.compose.service=$service"
        done
    fi
}

# Lists the services of the project that have a container.
present_services() {
    docker ps --all --filter "label=com.docker.compose.project=$PROJECT" \
        --format '{{.Label "com.docker.compose.service"}}' | sort -u
}

list_networks() {
    docker network ls --quiet --filter "label=com.docker.compose.project=$PROJECT"
}

list_volumes() {
    docker volume ls --quiet --filter "label=com.docker.compose.project=$PROJECT"
}

# Names the clusters that the given containers were started for: what BERTH_CLUSTER says to the caller
# may by now be another one, which is not ours to touch.
clusters_of() { # CONTAINER...
    [ $# -eq 0 ] || docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$@" |
        sed -n 's/^BERTH_CLUSTER=//p' | sort -u
}

# Stops and removes containers, their anonymous volumes too.
remove_containers() { # CONTAINER...
    [ $# -gt 0 ] || return 0
    docker stop -t 10 "$@" >/dev/null || :
    docker rm --force --volumes "$@" >/dev/null
}

# --- removal: by label, so that no compose tool is needed, and what another one left goes too ---

removed=0 removed_jobs=0 removed_networks=0 removed_volumes=0

count() {
    printf '%s' "$1" | grep -c . || :
}

# Removes the containers and networks of the project, and counts them.
# shellcheck disable=SC2086 # One object a word.
remove_services() {
    # What an interrupted tool had asked for may appear only while the first are being removed.
    while ours=$(containers) && [ -n "$ours" ]; do
        removed=$((removed + $(count "$ours")))
        remove_containers $ours || break
    done
    networks=$(list_networks)
    removed_networks=$(count "$networks")
    [ -z "$networks" ] || docker network rm $networks >/dev/null
}

# Lists the containers that the fleet's executors have started, for jobs and to hold networks for jobs. Another cluster
# on this machine may have the same name, as where BERTH_CLUSTER was meant for a berth dev; its executors have others.
executors_containers() { # CLUSTER [DOCKER_OPTION...]
    cluster=$1
    shift
    for executor in executor-1 executor-2 executor-3; do
        docker ps --all --quiet --filter "label=berth.cluster=$cluster" --filter "label=berth.executor=$executor" "$@"
    done
}

# Removes the fleet with its jobs and its data, and counts what it removes. Where no container is left
# to tell the cluster's name, it is the given one.
# shellcheck disable=SC2046,SC2086 # One object a word.
remove_fleet() { # CLUSTER
    clusters=$(clusters_of $(containers))
    remove_services
    # Only now that no executor is left to start another job.
    for cluster in ${clusters:-$1}; do
        removed_jobs=$((removed_jobs + $(count "$(executors_containers "$cluster" --filter label=berth.job)")))
        theirs=$(executors_containers "$cluster")
        [ -z "$theirs" ] || docker rm --force --volumes $theirs >/dev/null
    done
    volumes=$(list_volumes)
    removed_volumes=$(count "$volumes")
    [ -z "$volumes" ] || docker volume rm $volumes >/dev/null
}

tell_removal() {
    printf 'Removed %s containers of the fleet, %s of its jobs, %s networks and %s volumes.\n' \
        "$removed" "$removed_jobs" "$removed_networks" "$removed_volumes"
}

# --- a start that fails ---

# Whether this invocation makes the project: only then may its failure remove it. Data that was there
# before stays in any case.
starting=no
data=none

begin_start() {
    [ -n "$(containers)" ] || starting=new
    [ -z "$(list_volumes)" ] || data=old
}

end_start() {
    starting=no
}

# Called at the end of a recipe, whatever ended it.
clean_up() {
    [ "$starting" = new ] || return 0
    say "fleet: removing what was started of $PROJECT"
    if [ "$data" = none ]; then remove_fleet ''; else remove_services; fi
    tell_removal >&2
}

# --- ports ---

# Says whether something listens where a port of the fleet would: on 127.0.0.1, or on every address.
is_taken() { # PORT
    for table in /proc/net/tcp /proc/net/tcp6; do
        [ ! -r "$table" ] || cat "$table"
    done | awk -v port="$(printf '%04X' "$1")" '
        # The kernel writes an address as it lies in memory, in words: either end may be first.
        $4 == "0A" && split($2, at, ":") == 2 && at[2] == port &&
            at[1] ~ /^(0+|0*(FFFF0000|0000FFFF)?(0100007F|7F000001))$/ { found = 1 }
        END { exit !found }'
}

# Fails where a port that the services would publish is taken by anything but the project itself.
need_ports() { # SERVICE...
    # Another machine's ports cannot be seen from here.
    case ${DOCKER_HOST:-} in
        '' | unix://*) ;;
        *) return 0 ;;
    esac
    own=$(docker ps --filter "label=com.docker.compose.project=$PROJECT" --format '{{.Ports}}')
    taken='' wanted=''
    for service in "$@"; do
        case $service in
            scheduler-1) set -- "BERTH_HTTP_1=${BERTH_HTTP_1:-8080}" "BERTH_GRPC_1=${BERTH_GRPC_1:-50051}" ;;
            scheduler-2) set -- "BERTH_HTTP_2=${BERTH_HTTP_2:-8081}" "BERTH_GRPC_2=${BERTH_GRPC_2:-50052}" ;;
            scheduler-3) set -- "BERTH_HTTP_3=${BERTH_HTTP_3:-8082}" "BERTH_GRPC_3=${BERTH_GRPC_3:-50053}" ;;
            *) continue ;;
        esac
        for setting in "$@"; do
            name=${setting%%=*} port=${setting#*=}
            # 0 takes a free one; what is no port is for compose to refuse.
            case $port in
                0* | *[!0-9]* | ??????*) continue ;;
            esac
            case " $wanted " in
                *" $port "*)
                    say "Port $port is wanted twice. Set $name to another one (0 takes a free one)."
                    taken=yes
                    ;;
            esac
            wanted="$wanted $port"
            case $own in
                *":$port->"*) continue ;;
            esac
            ! is_taken "$port" || {
                say "Port $port is taken. Stop what uses it, or set $name (0 takes a free one)."
                taken=yes
            }
        done
    done
    [ -z "$taken" ] || fail "The fleet cannot have its ports."
}

# --- waiting ---

# Lists those services of the given ones that are not healthy yet, with their state.
unhealthy() { # SERVICE...
    for service in "$@"; do
        state=$(docker ps --all --filter "label=com.docker.compose.project=$PROJECT" \
            --filter "label=com.docker.compose.service=$service" --format '{{.Status}}')
        case $state in
            *'(healthy)'*) ;;
            *) printf '%s: %s\n' "$service" "${state:-not there}" ;;
        esac
    done
}

# Names the scheduler that leads, as the first scheduler that answers knows it; nothing if none does.
leader() {
    for container in $(containers scheduler-1 scheduler-2 scheduler-3); do
        answer=$(docker exec "$container" /berth --retry-for 0s status --output json 2>/dev/null) || continue
        printf '%s' "$answer" | tr -d ' \n' | sed -n 's/.*"leader":{[^}]*"schedulerId":"\([^"]*\)".*/\1/p'
        return 0
    done
}

# Waits until the given services are healthy and one of the schedulers leads: sets LEADER.
wait_until_ready() { # SERVICE...
    end=$(($(date +%s) + PATIENCE_SECONDS))
    while :; do
        waiting=$(unhealthy "$@")
        LEADER=
        [ -n "$waiting" ] || LEADER=$(leader)
        [ -z "$LEADER" ] || return 0
        [ "$(date +%s)" -lt "$end" ] || break
        sleep 0.5
    done
    say "After $PATIENCE_SECONDS s the fleet is not ready: ${waiting:-no scheduler leads}"
    # shellcheck disable=SC2046 # One service a word.
    tell_last_lines $(printf '%s' "$waiting" | cut -d : -f 1)
    [ "$starting" = new ] || say "./run docker_compose_down removes it."
    fail "The fleet is not ready."
}

# Shows what services wrote last.
tell_last_lines() { # SERVICE...
    for service in "$@"; do
        for container in $(containers "$service"); do
            last_lines=$(docker logs --tail 10 "$container" 2>&1) || :
            # One that was never started has nothing to tell.
            [ -z "$last_lines" ] || say "--- the last lines of $service
$last_lines"
        done
    done
}

# --- telling ---

# Where a port of a service is published on the host.
published() { # SERVICE PORT
    docker port "$(containers "$1")" "$2/tcp" 2>/dev/null | head -n 1
}

# Prints what is up and where, and adds the same to the closing line.
tell_fleet() { # SERVICE...
    schedulers_json='' executors_json='' addresses='' first=''
    printf '%-12s %-9s %-22s %-22s %s\n' SERVICE STATE REST GRPC ''
    for service in "$@"; do
        case $service in
            scheduler-*)
                http=$(published "$service" 8080)
                grpc=$(published "$service" 50051)
                first=${first:-$http}
                addresses=${addresses:+$addresses,}$grpc
                schedulers_json="$schedulers_json${schedulers_json:+,}{\"id\":\"$service\",\"http\":\"$http\",\"grpc\":\"$grpc\"}"
                printf '%-12s %-9s %-22s %-22s %s\n' "$service" healthy "http://$http" "$grpc" \
                    "$([ "$service" != "$LEADER" ] || echo leads)"
                ;;
            executor-*)
                executors_json="$executors_json${executors_json:+,}\"$service\""
                printf '%-12s %s\n' "$service" healthy
                ;;
            *) printf '%-12s %s\n' "$service" healthy ;;
        esac
    done
    json_add project "$(json_text "$PROJECT")"
    json_add cluster "$(json_text "$BERTH_CLUSTER")"
    json_add leader "$(json_text "$LEADER")"
    json_add schedulers "[$schedulers_json]"
    json_add executors "[$executors_json]"
    any=$(docker inspect --format '{{.Name}}' "$(containers scheduler-1)")
    cat <<END

Next:
  curl -s http://$first/jobs -d '{"image": "berth-job:local", "command": ["echo", "hello"]}'
  curl -s http://$first/jobs
  docker exec ${any#/} /berth run berth-job:local echo hello
  docker exec ${any#/} /berth executors
  ./run docker_restart_containers    after a change of the code
  ./run docker_compose_down          to remove it all
A berth on this machine reaches it by BERTH_ADDR=$addresses

END
}
