#!/bin/sh
# images                               build berth-job:local, the image that examples and tests run

no_options "$@"
need_compiler
need_docker
setup_tools busybox
setup_images
json_add images '["berth-job:local"]'
