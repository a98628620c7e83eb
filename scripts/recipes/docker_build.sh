#!/bin/sh
# docker_build                         the same as images

no_options "$@"
need_compiler
need_docker
setup_fleet_images
