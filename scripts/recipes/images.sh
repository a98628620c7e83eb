#!/bin/sh
# images                               build berth:local, berth-redis:local and berth-job:local

no_options "$@"
need_compiler
need_docker
setup_fleet_images
