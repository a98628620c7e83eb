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

# systemd refuses a unit whose program is not installed, so a program that every machine has stands in.
systemd_units() {
    units=$TOOLS/systemd-units
    rm -rf "$units"
    mkdir -p "$units"
    for unit in deploy/systemd/*.service; do
        sed 's|^ExecStart=/usr/local/bin/berth|ExecStart=/bin/sh|' "$unit" >"$units/${unit##*/}"
    done
    # It also tells of the machine's own units, and most faults are warnings for it: what it says of
    # ours is what counts.
    says=$(systemd-analyze verify --man=no "$units"/*.service 2>&1) || :
    ! printf '%s\n' "$says" | grep -F "$units/" >&2
}

checking fmt cargo fmt --all --check
checking clippy cargo clippy --workspace --all-targets -- -D warnings
checking docs docs
checking buf-lint buf lint
checking buf-breaking buf breaking --against proto/baseline.binpb
checking shellcheck shellcheck -x run scripts/*.sh scripts/recipes/*.sh .ci/run
if have systemd-analyze; then
    checking systemd-units systemd_units
else
    say "check: systemd-units are left out, since systemd-analyze is not here"
fi
checking house-rules cargo test -p berth-integration-tests --test house_rules

json_add failing "[$(for name in $failing; do json_text "$name"; done | sed 's/""/","/g')]"
[ -z "$failing" ] || fail "These checks failed:$failing."
printf 'All checks passed.\n'
