#!/usr/bin/env bash
# How near streaming comes to the limits of a machine with an NVIDIA GPU; writes one JSON object.
#
#   cargo build --release --features cuda
#   CUDA_PATH=/usr/local/cuda benches/cuda.sh [LAYERS] [peers] > benches/results/cuda.json
#
# Weights of Llama-3.1-8B's shapes (32 layers unless LAYERS says otherwise: 16 GB) go to /dev/shm, and to DISK (default
# /var/tmp/leveret-bench) if it has room. `peers` also runs benches/peers.py on them: AirLLM and accelerate.
set -euo pipefail
export LEVERET="${LEVERET:-$(dirname "$0")/../target/release/leveret}"
exec python3 "$(dirname "$0")/cuda.py" "${1:-32}" "${@:2}"
