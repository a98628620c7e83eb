# shellcheck shell=sh
# Sourced by the recipes that run tests: how many passed, failed, or did not run, and why.

# A test that leaves itself out appends a line here: in cargo's own count it passes for passed.
begin_counting() {
    mkdir -p "$REPORTS"
    # shellcheck disable=SC2154 # run sets it.
    export BERTH_TEST_SKIP_LOG="$REPORTS/$recipe-skipped.txt"
    : >"$BERTH_TEST_SKIP_LOG"
}

# Sums cargo's closing lines, tells them and adds them to the closing JSON. Tests that only root can
# run are marked #[ignore = "needs root..."].
tell_counts() { # LOG
    totals=$(awk '
        { gsub(/\033\[[0-9;]*m/, "") }
        /^test result: / { passed += $4; failed += $6; ignored += $8 }
        /^test .* ignored, needs root/ { root++ }
        END { print passed + 0, failed + 0, ignored + 0, root + 0 }' "$1")
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
    [ "$skipped" -eq 0 ] || sort -u "$BERTH_TEST_SKIP_LOG" | sed 's/^/skipped: /'
    printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
}
