#!/usr/bin/env bash
# How near streaming comes to its limit: max(reading the bytes alone, computing alone), in one run on one machine.
#
#   benches/streaming.sh [DIR] > benches/results/streaming.json
#
# DIR (default /tmp/leveret-bench) gets 3.2 GB of random weights of Llama-3.2-1B's shapes, 22 layers. Reading alone is
# the bytes of the same files by the same number of readers, past the page cache and through it.
# Needs root to empty the page cache; without it the cold rows are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
python3 benches/streaming.py "${1:-/tmp/leveret-bench}"
