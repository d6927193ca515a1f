# What a contributor runs; `just` lists it.
default:
    @just --list

# Everything that a change must pass, in the order that fails fastest.
check: fmt-check lint test

# Formats the code.
fmt:
    cargo fmt --all

fmt-check:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets -- -D warnings

# All tests; those on Postgres start their own server from the installed binaries.
test:
    cargo test
    cargo test --workspace --lib

# Feeds a fuzz target of its own making for ten minutes; needs cargo-fuzz. New inputs land in target/fuzz.
fuzz TARGET SECONDS="600":
    mkdir -p target/fuzz/{{TARGET}}
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none {{TARGET}} target/fuzz/{{TARGET}} fuzz/corpus/{{TARGET}} -- \
        -max_total_time={{SECONDS}} -rss_limit_mb=2048 -timeout=10 -max_len=65536

# The real binary with its database, network, clock and process broken on purpose. Needs faketime, procps, strace,
# nginx-light, haproxy, slowhttptest, and root for some.
chaos:
    cargo build --workspace --features remit-server/controls --bin remit --bin remit-controls
    cargo test --workspace --features remit-server/controls --test chaos -- --nocapture --test-threads=2

# The API document against the binary, after `cargo test`; needs python3 and the network the first time.
schemathesis:
    tests/schemathesis.sh

# A local Remit with the starter bundle.
run *ARGS:
    cargo run --release -- serve --dev {{ARGS}}

# The figures of the README.
bench:
    cargo bench -p remit-benches

# Writes the golden files anew; read the difference before you commit it.
accept:
    REMIT_GOLDEN=write cargo test --test it -- openapi:: access_matrix:: operations::
    cargo run --quiet -- config page > docs/config.md

# Licences, advisories and duplicate versions; needs cargo-deny.
deny:
    cargo deny check

# Starts a pair of migrations: `just migration approvals`.
migration NAME:
    #!/usr/bin/env bash
    set -euo pipefail
    last=$(ls migrations/sqlite | sed -n 's/^\([0-9]\{4\}\)_.*/\1/p' | sort | tail -n 1)
    next=$(printf '%04d' $((10#${last:-0} + 1)))
    for database in postgres sqlite; do
        printf -- '-- What this adds, and why.\n' > "migrations/$database/${next}_{{NAME}}.sql"
    done
    echo "migrations/{postgres,sqlite}/${next}_{{NAME}}.sql; add their digests to migrations/CHECKSUMS when they are done"

# The documentation of the crates.
doc:
    cargo doc --workspace --no-deps --open
