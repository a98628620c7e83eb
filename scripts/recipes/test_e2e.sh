#!/bin/sh
# test_e2e                             end-to-end tests, and fleets of their own from the images as released

no_options "$@"
# shellcheck source=scripts/counting.sh
. scripts/counting.sh
need_compiler
need_docker
setup_tools registry curl python compose
setup_fleet_images
export_tools
# A fleet named for other recipes is not the one to be tested.
unset BERTH_PROJECT BERTH_CLUSTER
export BERTH_IMAGE="${BERTH_IMAGE:-berth:local}" BERTH_IMAGE_PROFILE="${BERTH_IMAGE_PROFILE:-release}"

begin_counting
code=0
logged "$REPORTS/test_e2e.log" cargo test --no-fail-fast -p berth-integration-tests --test e2e --test fleet || code=$?
tell_counts "$REPORTS/test_e2e.log"
[ "$code" -eq 0 ] || fail "Tests failed."
[ $((passed + failed)) -gt 0 ] || void "No test ran."
