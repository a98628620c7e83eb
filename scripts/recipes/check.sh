#!/bin/sh
# check                                formatting, clippy, docs, protocol, shell scripts and house rules

no_options "$@"
need_compiler
cargo fmt --version >/dev/null 2>&1 || missing "rustfmt is missing: rustup component add rustfmt."
cargo clippy --version >/dev/null 2>&1 || missing "clippy is missing: rustup component add clippy."
setup_tools python
export_tools
export BUF_CACHE_DIR="$TOOLS/buf-cache"
failing=

# Runs one check; the others run all the same, so that one pass shows everything there is to mend.
checking() { # NAME COMMAND...
    name=$1
    shift
    say "check: $name"
    "$@" || failing="$failing $name"
}

docs() {
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps --workspace
}

checking fmt cargo fmt --all --check
checking clippy cargo clippy --workspace --all-targets -- -D warnings
checking docs docs
checking buf-lint buf lint
checking buf-breaking buf breaking --against proto/baseline.binpb
checking shellcheck shellcheck -x run scripts/*.sh scripts/recipes/*.sh .ci/run
checking house-rules cargo test -p berth-integration-tests --test house_rules

json_add failing "[$(for name in $failing; do json_text "$name"; done | sed 's/""/","/g')]"
[ -z "$failing" ] || fail "These checks failed:$failing."
printf 'All checks passed.\n'
