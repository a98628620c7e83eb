#!/bin/sh
# docker_start_single                  start Redis, one scheduler and one executor in Docker

# shellcheck source=scripts/fleet.sh
. scripts/fleet.sh
no_options "$@"
need_compiler
need_docker
single='redis scheduler-1 executor-1'
# shellcheck disable=SC2086 # One service a word.
need_ports $single
find_compose
setup_fleet_images
export BERTH_FLEET_SCHEDULERS=scheduler-1:50051
say "fleet: starting $PROJECT, the smallest one"
# shellcheck disable=SC2046,SC2086 # One container or service a word.
{
    begin_start
    # What a larger fleet of the same project has more.
    remove_containers $(containers scheduler-2 scheduler-3 executor-2 executor-3)
    compose up --detach $single
    say "fleet: waiting until all are healthy and the scheduler leads"
    wait_until_ready $single
    end_start
    tell_fleet $single
}
