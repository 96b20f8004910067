# The verbs of this repository. `./justw` runs them with the pinned version of just.

set shell := ["bash", "-euo", "pipefail", "-c"]

export FARVIEW_PROMETHEUS := justfile_directory() / ".tools/prometheus2/usr/bin/prometheus"
export FARVIEW_PROMTOOL := justfile_directory() / ".tools/prometheus2/usr/bin/promtool"
export FARVIEW_PROMETHEUS3 := justfile_directory() / ".tools/prometheus3/usr/bin/prometheus"
export FARVIEW_PROMTOOL3 := justfile_directory() / ".tools/prometheus3/usr/bin/promtool"

# How a binary is linked that needs nothing around it. Crates are compiled as always.
linked := "-C target-feature=+crt-static"

# List the recipes
default:
    @just --list --unsorted

# Two clusters, three real Prometheus, one global view; `--check` proves it and exits
demo *args: tools
    cargo build --profile ci -p farview -p farview-integration --bins
    target/ci/demo --farview target/ci/farview {{ args }}

# Every test, with all that it needs
test: tools lint static
    cargo build -p farview
    cargo test --workspace --no-fail-fast

# Formatting, lints, arrows between crates
lint:
    cargo fmt --check
    cargo clippy --workspace -- -D warnings
    # In tests and benches a failed step may fail the test.
    cargo clippy --workspace --all-targets -- -D warnings -A clippy::unwrap_used

# The manifests: render every overlay and component, validate strictly, run the overlays without Kubernetes
k8s-check: tools static
    cargo build -p farview
    cargo test -p farview-integration --test kubernetes --test scrape_jobs --test mesh --test self_monitoring --test image

# The image, in the OCI layout: target/image. A Containerfile does the same where there is an engine
image:
    cargo rustc --profile dist -p farview --bin farview -- {{ linked }}
    integration/tools/image target/dist/farview target/image

# The binary of the tests without shared libraries, as it is in the image
[private]
static:
    cargo rustc -p farview --bin farview -- {{ linked }} -C strip=symbols
    ln -f target/debug/farview target/debug/farview-static

# Random queries beside a real Prometheus: `--blocks 100 --queries 100000 --seed 7`
fuzz-promql *args: tools
    cargo build --profile ci -p farview-integration --bin fuzz_promql
    target/ci/fuzz_promql {{ args }}

# Build the binary
build:
    cargo build --release -p farview

# Real servers for tests and demo, unpacked into .tools/
tools:
    @integration/tools/prometheus
    @integration/tools/kubernetes
    @integration/tools/image
    @integration/tools/envoy

# Generate the wire types anew from the .proto files
proto:
    UPDATE_PROTO=1 cargo test -q -p farview-proto

# Flags and metrics pages, from the code
docs: tools
    UPDATE_DOCS=1 cargo test -q -p farview --test docs
    cargo build -p farview
    UPDATE_DOCS=1 cargo test -q -p farview-integration --test self_monitoring

# The micro-benches
bench *args:
    cargo bench {{ args }}

# Licences, sources, arrows and, where the database can be had, advisories (needs cargo-deny)
deny:
    cargo deny check bans licenses sources
