#!/bin/sh
# fuzz [--cases N] [--seed N]          throw damaged messages, records, JSON and texts at whatever reads them

cases=100000
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage_error "$1 needs a number."
    case $1 in
        --cases)
            case $2 in
                '' | *[!0-9]* | 0) usage_error "--cases takes a whole number above 0, not \"$2\"." ;;
            esac
            cases=$2
            ;;
        --seed) use_seed "$2" ;;
        *) usage_error "./run fuzz does not know \"$1\"." ;;
    esac
    shift 2
done

# shellcheck source=scripts/counting.sh
. scripts/counting.sh
need_compiler
export PROPTEST_CASES="$cases"
# shellcheck disable=SC2154 # run sets it.
[ "$json_seed" = null ] || export PROPTEST_RNG_SEED="$json_seed"

# The targets: conversions of messages, texts of people, stored records, and the gateway's JSON.
fuzz_all() {
    cargo test --test fuzz &&
        cargo test -p berth-store --lib record::tests:: &&
        cargo test -p berth-gateway --lib tests::properties::
}

begin_counting
code=0
logged "$REPORTS/fuzz.log" fuzz_all || code=$?
tell_counts "$REPORTS/fuzz.log"
json_add cases "$cases"
[ "$code" -eq 0 ] || fail "What is above broke a promise; it is kept beside the target and tried first from now on."
[ "$passed" -gt 0 ] || void "No target ran."
