#!/bin/sh
# docker_restart_containers            build the images anew after changes and recreate the fleet's containers

# shellcheck source=scripts/fleet.sh
. scripts/fleet.sh
no_options "$@"
need_compiler
need_docker
services=$(present_services)
[ -n "$services" ] || fail "There is no fleet $PROJECT to restart: ./run docker_compose_up starts one."
case $services in
    *scheduler-2*) ;;
    *) export BERTH_FLEET_SCHEDULERS=scheduler-1:50051 ;;
esac
find_compose
setup_fleet_images
say "fleet: recreating the containers of $PROJECT"
# shellcheck disable=SC2046,SC2086 # One service a word.
{
    # Redis goes on, unless its own image or settings changed; jobs go on in any case.
    compose up --detach --no-deps redis
    compose up --detach --no-deps --force-recreate $(printf '%s\n' $services | grep -v '^redis$')
    say "fleet: waiting until all are healthy and one leads"
    wait_until_ready $services
    tell_fleet $services
}
