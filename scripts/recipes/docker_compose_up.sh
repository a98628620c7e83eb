#!/bin/sh
# docker_compose_up                    start a fleet in Docker: Redis, 3 schedulers, 3 executors

# shellcheck source=scripts/fleet.sh
. scripts/fleet.sh
no_options "$@"
need_compiler
need_docker
# shellcheck disable=SC2086 # One service a word.
need_ports $ALL_SERVICES
find_compose
setup_fleet_images
say "fleet: starting $PROJECT"
# shellcheck disable=SC2086 # One service a word.
{
    begin_start
    compose up --detach --remove-orphans
    say "fleet: waiting until all are healthy and one leads"
    wait_until_ready $ALL_SERVICES
    end_start
    tell_fleet $ALL_SERVICES
}
