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

need_compiler
groups=
for group in redis busybox registry python; do
    skips "$group" || groups="$groups $group"
done
skips docker || need_docker
# shellcheck disable=SC2086 # One group a word.
[ -z "$groups" ] || setup_tools $groups
skips docker || skips busybox || setup_images
export_tools

# A test that skips itself appends a line here: in cargo's own count it passes for passed.
mkdir -p "$REPORTS"
export BERTH_TEST_SKIP_LOG="$REPORTS/test-skipped.txt"
: >"$BERTH_TEST_SKIP_LOG"
code=0
logged "$REPORTS/test.log" cargo test --no-fail-fast "$@" || code=$?

# Sums cargo's closing lines; tests that only root can run are marked #[ignore = "needs root..."].
totals=$(awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    /^test result: / { passed += $4; failed += $6; ignored += $8 }
    /^test .* ignored, needs root/ { root++ }
    END { print passed + 0, failed + 0, ignored + 0, root + 0 }' "$REPORTS/test.log")
read -r passed failed ignored needs_root <<END
$totals
END
skipped=$(grep -c . "$BERTH_TEST_SKIP_LOG" || :)
passed=$((passed - skipped))

json_add passed "$passed"
json_add failed "$failed"
json_add ignored "$ignored"
json_add skipped "$skipped"
json_add needsRoot "$needs_root"
[ "$needs_root" -eq 0 ] || printf 'not run (needs root): %s\n' "$needs_root"
[ "$skipped" -eq 0 ] || printf 'skipped by BERTH_TEST_SKIP=%s: %s\n' "${BERTH_TEST_SKIP:-}" "$skipped"
printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$code" -eq 0 ] || fail "Tests failed."
[ $((passed + failed)) -gt 0 ] || void "No test ran."
