# shellcheck shell=sh
# Sourced by run and by the scripts it executes: how they speak and how they give up.

# Exit codes of every recipe; the last two tell "broken" from "not tested" and "not installed".
EXIT_FAILED=1
EXIT_USAGE=2
EXIT_VOID=3
EXIT_MISSING=4

# Tells a person what happens. Progress goes to stderr, so that stdout stays the recipe's own.
say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "$*"
    exit "$EXIT_FAILED"
}

usage_error() {
    say "$*"
    exit "$EXIT_USAGE"
}

void() {
    say "$*"
    exit "$EXIT_VOID"
}

missing() {
    say "$*"
    exit "$EXIT_MISSING"
}

have() {
    command -v "$1" >/dev/null 2>&1
}
