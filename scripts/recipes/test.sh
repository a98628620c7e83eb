#!/bin/sh
# test [--seed N] [-- CARGO_ARGS...]   run every test with `cargo test`, after setting up what they need

while [ $# -gt 0 ]; do
    case $1 in
        --seed)
            [ $# -ge 2 ] || usage_error "--seed needs a number."
            use_seed "$2"
            shift 2
            ;;
        --)
            shift
            break
            ;;
        *) usage_error "./run test does not know \"$1\": cargo's own arguments come after --." ;;
    esac
done

# Whether BERTH_TEST_SKIP, a list by commas, names a need: what is skipped is not set up either.
skips() {
    case ,${BERTH_TEST_SKIP:-}, in
        *,"$1",*) return 0 ;;
        *) return 1 ;;
    esac
}

# shellcheck source=scripts/counting.sh
. scripts/counting.sh
need_compiler
groups=
for group in redis busybox registry curl python compose; do
    skips "$group" || groups="$groups $group"
done
skips docker || need_docker
# shellcheck disable=SC2086 # One group a word.
[ -z "$groups" ] || setup_tools $groups
# A fleet under test is of the profile that the tests are compiled in, and under a tag of its own.
export BERTH_IMAGE="${BERTH_IMAGE:-berth:test}" BERTH_IMAGE_PROFILE="${BERTH_IMAGE_PROFILE:-dev}"
skips docker || skips busybox || setup_images job
skips docker || skips redis || setup_images berth redis
export_tools

begin_counting
code=0
logged "$REPORTS/test.log" cargo test --no-fail-fast "$@" || code=$?
tell_counts "$REPORTS/test.log"
[ "$code" -eq 0 ] || fail "Tests failed."
[ $((passed + failed)) -gt 0 ] || void "No test ran."
