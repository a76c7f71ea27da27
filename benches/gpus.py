"""Streaming over one, two and more NVIDIA GPUs of a machine, beside copies over their links alone; prints one JSON object.

    cargo build --release --features cuda
    CUDA_PATH=/usr/local/cuda python3 benches/gpus.py [LAYERS] > benches/results/gpus.json

Weights of Llama-3.1-8B's shapes (32 layers unless LAYERS says otherwise: 16 GB) go to /dev/shm, and from there to
page-locked memory; each GPU holds two slots and no unit more. Needs PyTorch for the copies. LEVERET
names the command, COMMIT what it was made of.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEVERET = os.environ.get("LEVERET", f"{ROOT}/target/release/leveret")
MEMORY = "/dev/shm/leveret-gpus"
GIB = 1 << 30


def copy_rates(counts):
    """GB/s of copies from page-locked memory to so many GPUs at once, all together; in a process that ends."""
    # `cuda.py` beside this file would hide a package of that name, so its folder is not looked in.
    program = f"import runpy; runpy.run_path({os.path.abspath(__file__)!r})['print_copy_rates']({counts})"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd="/")
    return json.loads(run.stdout)


def print_copy_rates(counts):
    import torch

    devices = range(max(counts))
    sources = [torch.empty(GIB, dtype=torch.uint8, pin_memory=True) for _ in devices]
    targets = [torch.empty(GIB, dtype=torch.uint8, device=f"cuda:{device}") for device in devices]

    def rate(count):
        rates = []
        for _ in range(10):
            [torch.cuda.synchronize(device) for device in devices]
            start = time.perf_counter()
            for source, target in list(zip(sources, targets))[:count]:
                target.copy_(source, non_blocking=True)
            [torch.cuda.synchronize(device) for device in devices]
            rates.append(count * GIB / (time.perf_counter() - start) / 1e9)
        return statistics.median(rates)

    print(json.dumps([rate(count) for count in counts]))


def streamed(count, link):
    """A token and a prompt with all layers in page-locked memory."""
    devices = ",".join(f"cuda:{device}" for device in range(count))
    command = [LEVERET, "bench", MEMORY, "--device", devices, "--vram", "1200MiB", "--ram", "free", "--prompt-tokens", "512",
               "--max-tokens", "8", "--runs", "2", "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        return {"gpus": count, "error": run.stderr.strip()[-500:]}
    report = json.loads(run.stdout)
    paces = {kind: {"seconds": report[kind]["seconds"], "gb_per_second": report[kind]["upload_rate"] / 1e9,
                    "of_links": report[kind]["upload_rate"] / 1e9 / link} for kind in ("prefill", "decode")}
    return {"gpus": count, "links_gb_per_second": link, **paces, "tokens": report["tokens"],
            "resident_units": report["plan"]["tiers"].count("device"), "units": len(report["plan"]["tiers"])}


def main(layers="32"):
    names = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    names = names.stdout.split("\n")[:-1]
    counts = [count for count in (1, 2, 4, 8) if count <= len(names)]
    if not counts:
        raise SystemExit("nvidia-smi names no GPU")
    shutil.rmtree(MEMORY, ignore_errors=True)
    try:
        command = [LEVERET, "synth", MEMORY, "--preset", "llama-3.1-8b", "--num-hidden-layers", layers]
        subprocess.run(command, check=True, capture_output=True)
        rows = [streamed(count, link) for count, link in zip(counts, copy_rates(counts))]
    finally:
        shutil.rmtree(MEMORY, ignore_errors=True)
    tokens = [row.pop("tokens") for row in rows if "error" not in row]
    equal = len(tokens) == len(rows) and all(of == tokens[0] for of in tokens)
    about = {"command": f"benches/gpus.py {layers}", "commit": os.environ.get("COMMIT", ""), "gpus": names,
             "cores": os.cpu_count(), "tokens_equal_in_all_rows": equal}
    print(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
