"""Uploads against the raw rates of the same machine in the same run; see cuda.sh. Needs PyTorch for the raw copy."""

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time

LEVERET = os.environ["LEVERET"]
MODEL = "/dev/shm/leveret-bench"
PASSES = 31


def raw_copy(gigabytes=2, runs=10):
    """GB/s of a copy from page-locked memory to the device, nothing else going on."""
    import torch

    source = torch.empty(gigabytes << 30, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device="cuda")
    rates = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        rates.append((gigabytes << 30) / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


def raw_read(threads):
    """GB/s of reading all files into memory with so many threads, through the page cache."""
    files = sorted(os.path.join(MODEL, f) for f in os.listdir(MODEL) if f.endswith(".safetensors"))
    chunk, slots = 4 << 20, memoryview(bytearray(512 << 20))
    chunks = [(os.open(f, os.O_RDONLY), at) for f in files for at in range(0, os.path.getsize(f), chunk)]
    jobs = iter([(fd, at, i * chunk % len(slots)) for i, (fd, at) in enumerate(chunks)])
    lock, total = threading.Lock(), sum(os.path.getsize(f) for f in files)

    def work():
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            os.preadv(job[0], [slots[job[2]:job[2] + chunk]], job[1])

    start = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    return total / (time.perf_counter() - start) / 1e9


def generate(*flags, prompt=4):
    """One run: the median of the last two thirds of its decode passes, when all kernels are compiled."""
    tokens = ",".join(str(1 + i % 1000) for i in range(prompt))
    command = [LEVERET, "generate", "--json", "--ignore-eos", "--temperature", "0", "--device", "cuda"]
    command += ["--tokens", tokens, "--max-tokens", str(PASSES + 1), "--model", MODEL, *flags]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    passes = report["stats"]["decode"][PASSES // 3:]
    median = lambda field: statistics.median(p[field] for p in passes)
    seconds, uploaded = median("seconds"), median("upload_bytes")
    return {
        "flags": " ".join(flags),
        "resident_units": report["stats"]["resident_units"],
        "units": report["stats"]["units"],
        "planned_bytes": report["stats"]["planned_bytes"],
        "ttft": report["stats"]["ttft"],
        "pass_seconds": seconds,
        "uploaded_bytes": uploaded,
        "gb_per_second": uploaded / seconds / 1e9,
        "read_gb_per_second": median("read_bytes") / max(median("read_seconds"), 1e-9) / 1e9,
        "tokens": report["completions"][0]["tokens"],
    }


def main(layers):
    flags = ["--preset", "llama-3.1-8b", "--num-hidden-layers", layers, "--vocab-size", "32000"]
    subprocess.run([LEVERET, "synth", MODEL, *flags], check=True)
    link = raw_copy()
    reading = max(raw_read(threads) for threads in (8, 12, 16) for _ in range(2))
    cases = [
        ["--vram", "free"],
        ["--vram", "min", "--ram", "free"],
        ["--vram", "min", "--ram", "free", "--transfer", "prefetch"],
        ["--vram", "min", "--ram", "free", "--transfer", "sync"],
        ["--vram", "min", "--ram", "free", "--no-pin"],
        ["--vram", "2GiB", "--ram", "free"],
        ["--vram", "2GiB", "--ram", "1500MiB"],
        ["--vram", "3GiB", "--ram", "free"],
    ]
    rows = []
    for case in cases:
        row = generate(*case)
        of_link = row["gb_per_second"] / link
        of_reading = row["gb_per_second"] / reading
        rows.append({**row, "of_raw_copy": of_link, "of_raw_reading": of_reading})
    equal = all(row["tokens"] == rows[0]["tokens"] for row in rows)
    gpu = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    about = {
        "command": f"benches/cuda.sh {layers}",
        "commit": os.environ.get("COMMIT", ""),
        "gpu": subprocess.run(gpu, capture_output=True, text=True).stdout.strip(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "raw_copy_gb_per_second": link,
        "raw_reading_gb_per_second": reading,
        "tokens_equal_in_all_rows": equal,
    }
    for row in rows:
        del row["tokens"]
    print(json.dumps({**about, "rows": rows}, indent=1))


main(sys.argv[1])
