#!/bin/sh
# docker_compose_down                  remove the fleet with its jobs, network and data; images stay

# shellcheck source=scripts/fleet.sh
. scripts/fleet.sh
no_options "$@"
need_docker

# Everything is found by its label, so this needs no compose tool, and it also removes what another
# tool, or an interrupted start, has left.
ours=$(containers)
say "fleet: removing $PROJECT"
# shellcheck disable=SC2086 # One object a word.
remove_containers $ours
# Only now that no executor is left to start another.
jobs=$(docker ps --all --quiet --filter "label=berth.cluster=$BERTH_CLUSTER")
# shellcheck disable=SC2086
[ -z "$jobs" ] || docker rm --force --volumes $jobs >/dev/null
networks=$(docker network ls --quiet --filter "label=com.docker.compose.project=$PROJECT")
# shellcheck disable=SC2086
[ -z "$networks" ] || docker network rm $networks >/dev/null
volumes=$(docker volume ls --quiet --filter "label=com.docker.compose.project=$PROJECT")
# shellcheck disable=SC2086
[ -z "$volumes" ] || docker volume rm $volumes >/dev/null

count() {
    printf '%s' "$1" | grep -c . || :
}
json_add project "$(json_text "$PROJECT")"
json_add containers "$(count "$ours")"
json_add jobContainers "$(count "$jobs")"
json_add networks "$(count "$networks")"
json_add volumes "$(count "$volumes")"
printf 'Removed %s containers of the fleet, %s of its jobs, %s networks and %s volumes.\n' \
    "$(count "$ours")" "$(count "$jobs")" "$(count "$networks")" "$(count "$volumes")"
