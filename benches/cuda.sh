#!/usr/bin/env bash
# How near uploads come to the link's rate, on a machine with an NVIDIA GPU; writes one JSON object.
#
#   cargo build --release --features cuda
#   CUDA_PATH=/usr/local/cuda benches/cuda.sh [LAYERS] > benches/results/cuda.json
#
# Weights of Llama-3.1-8B's shapes (8 layers unless LAYERS says otherwise, vocabulary 32,000) go to /dev/shm.
set -euo pipefail
export LEVERET="${LEVERET:-$(dirname "$0")/../target/release/leveret}"
exec python3 "$(dirname "$0")/cuda.py" "${1:-8}"
