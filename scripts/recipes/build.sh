#!/bin/sh
# build                                build the release binary; the line before the JSON is its path

no_options "$@"
need_compiler
cargo build --release --bin berth || fail "The build failed."
printf '%s\n' "$CARGO_OUT/release/berth"
json_add binary "$(json_text "$CARGO_OUT/release/berth")"
