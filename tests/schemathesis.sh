#!/usr/bin/env bash
# Holds the real binary against its own API document with schemathesis: once with a valid key, once with that of who runs the
# installation, once with an invalid one.
set -euo pipefail
cd "$(dirname "$0")/.."
version=4.32.5
venv=${REMIT_SCHEMATHESIS_VENV:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/remit-schemathesis-$version}
export SCHEMATHESIS_HOOKS=$PWD/tests/schemathesis/hooks.py PYTHONDONTWRITEBYTECODE=1
config=$PWD/tests/schemathesis/schemathesis.toml
binary=$PWD/${CARGO_TARGET_DIR:-target}/debug/remit

if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
[ -x "$binary" ] || cargo build --locked --bin remit

folder=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap stop EXIT
cd "$folder"
REMIT_DEV_KEY=a-key-for-the-tests-only REMIT__DATA__DIR=$folder/data REMIT__LISTEN__OPERATIONS=127.0.0.1:0 \
    "$binary" serve --dev --listen 127.0.0.1:0 --ready-file ready.json >output 2>&1 &
server=$!
for _ in $(seq 300); do
    [ -s ready.json ] && break
    kill -0 "$server" 2>/dev/null || { cat output; exit 1; }
    sleep 0.1
done
url=$(python3 -c 'import json; print(json.load(open("ready.json"))["url"])')

# One worker and one seed, so that a failure comes again.
check() {
    timeout 300 "$venv/bin/schemathesis" --config-file "$config" run "$url/openapi.json" --url "$url" \
        --checks all --seed 1 --workers 1 --continue-on-failure --warnings off --no-color "$@"
}
failed=0
REMIT_KEY_IS_INVALID=1 check --phases examples,fuzzing --max-examples 5 \
    --header "Authorization: Bearer not-a-key" >invalid 2>&1 &
invalid=$!
printf -- '-- a valid key\n'
check --phases examples,coverage,fuzzing --max-examples 5 \
    --header "Authorization: Bearer a-key-for-the-tests-only" || failed=1
operator=$("$binary" key create operator --scopes tenants --direct --data "$folder/data" --pepper-file "$folder/data/pepper")
printf -- '-- a key that administers tenants\n'
check --include-path-regex '^/v1/tenants' --phases examples,coverage,fuzzing --max-examples 5 \
    --header "Authorization: Bearer $operator" || failed=1
wait "$invalid" || failed=1
printf -- '-- an invalid key\n'
cat invalid
if ! kill -0 "$server" 2>/dev/null || grep -q 'panicked at' output; then
    echo "the server did not survive it:"
    tail -n 50 output
    failed=1
fi
exit "$failed"
