"""How fast a model with experts streams on an NVIDIA GPU when it does not fit; prints one JSON object.

    cargo build --release --features cuda
    CUDA_PATH=/usr/local/cuda python3 benches/experts.py [LAYERS] > benches/results/experts.json

Weights of Qwen3-30B-A3B's shapes (24 of its 48 layers unless LAYERS says otherwise) go to /dev/shm. Bytes a token are held
against those of all layers, experts included, which is what streaming whole layers would bring. LEVERET names the command.
"""

import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEVERET = os.environ.get("LEVERET", f"{ROOT}/target/release/leveret")
MODEL = "/dev/shm/leveret-experts"


def leveret(*args):
    run = subprocess.run([LEVERET, *args], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(args)}: {run.stderr.strip()[-500:]}")
    return run.stdout


def layer_bytes():
    """Bytes of all layers: one shard holds what is outside of them."""
    shards = sorted(name for name in os.listdir(MODEL) if name.endswith(".safetensors"))
    return sum(os.path.getsize(f"{MODEL}/{shard}") for shard in shards[1:])


def row(vram, ram, *flags):
    report = json.loads(leveret("bench", MODEL, "--device", "cuda", "--vram", vram, "--ram", ram, "--prompt-tokens", "32",
                                "--max-tokens", "24", "--runs", "2", "--json", *flags))
    decode = report["decode"]
    bytes_a_token = decode["upload_bytes"]
    return {"vram": vram, "ram": ram, "decode": decode, "limits": report["limits"],
            "fewer_bytes_than_whole_layers": layer_bytes() / bytes_a_token,
            "peak_device_bytes": report["peak_device_bytes"]}


def main(layers="24"):
    name = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    shutil.rmtree(MODEL, ignore_errors=True)
    try:
        leveret("synth", MODEL, "--preset", "qwen3-30b-a3b", "--num-hidden-layers", layers)
        # A half of the layers under a half of the memory is as the whole under all of it.
        rows = [row("4GiB", "2GiB"), row("2GiB", "2GiB"), row("2GiB", "free")]
        about = {"command": f"benches/experts.py {layers}", "commit": os.environ.get("COMMIT", ""), "layers": int(layers),
                 "device": name.stdout.strip(), "layer_bytes": layer_bytes()}
        print(json.dumps({**about, "rows": rows}, indent=1))
    finally:
        shutil.rmtree(MODEL, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
