#!/bin/sh
# docker_compose_down                  remove the fleet with its jobs, network and data; images stay

# shellcheck source=scripts/fleet.sh
. scripts/fleet.sh
no_options "$@"
need_docker

# Everything is found by its label, so this needs no compose tool, and it also removes what another
# tool, or an interrupted start, has left.
say "fleet: removing $PROJECT"
remove_fleet "$PROJECT"

json_add project "$(json_text "$PROJECT")"
json_add containers "$removed"
json_add jobContainers "$removed_jobs"
json_add networks "$removed_networks"
json_add volumes "$removed_volumes"
tell_removal
