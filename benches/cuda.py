"""Streaming on an NVIDIA GPU against the limits of the same machine in the same run; see cuda.sh.

Needs PyTorch for the raw copy, and root to empty the page cache.
"""

import glob
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

LEVERET = os.environ["LEVERET"]
MEMORY = "/dev/shm/leveret-bench"
DISK = os.environ.get("DISK", "/var/tmp/leveret-bench")
GIB = 1 << 30
CHUNK = 4 << 20

# Two slots and no unit more; room to read into and no unit more.
STREAMED, FROM_FILES = ["--vram", "1200MiB"], ["--ram", "400MiB"]


def leveret(*args, env=None):
    """The JSON that a command prints."""
    run = subprocess.run([LEVERET, *args, "--json"], capture_output=True, text=True, env={**os.environ, **(env or {})})
    if run.returncode:
        raise RuntimeError(f"{' '.join(args)}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def raw_copy(runs=10):
    """GB/s of a copy from page-locked memory to the device, nothing else going on; in a process that ends."""
    code = f"import cuda; print(cuda.copy_rate({runs}))"
    here = os.path.dirname(os.path.abspath(__file__))
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=here)
    return float(run.stdout)


def copy_rate(runs):
    import torch

    source = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device="cuda")
    rates = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        rates.append(GIB / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


def raw_read(model, threads, direct):
    """GB/s of reading all files into memory, by so many threads, past the page cache or through it."""
    import mmap

    ring = mmap.mmap(-1, 32 * CHUNK)
    ring.madvise(mmap.MADV_HUGEPAGE)
    ring.write(bytes(len(ring)))
    view = memoryview(ring)
    files = [(os.open(f, os.O_RDONLY | (os.O_DIRECT if direct else 0)), os.path.getsize(f))
             for f in sorted(glob.glob(f"{model}/*.safetensors"))]
    chunks = [(fd, at) for fd, size in files for at in range(0, size, CHUNK)]
    jobs = iter([(fd, at, i * CHUNK % len(ring)) for i, (fd, at) in enumerate(chunks)])
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            os.preadv(job[0], [view[job[2]:job[2] + CHUNK]], job[1])

    start = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    return sum(size for _, size in files) / (time.perf_counter() - start) / 1e9


def drop_cache():
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


class GpuMemory:
    """The most memory of the GPU in use while this is open, in bytes, as nvidia-smi has it."""

    def __enter__(self):
        self.peak, self.open = 0, True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
        while self.open:
            used = subprocess.run(query, capture_output=True, text=True).stdout.split()
            self.peak = max(self.peak, int(used[0]) << 20)
            time.sleep(0.02)

    def __exit__(self, *_):
        self.open = False
        self.thread.join()


def context_bytes():
    """GPU memory of a process that has a CUDA context and nothing else."""
    code = """
import ctypes, time
cuda = ctypes.CDLL("libcuda.so.1")
context, device = ctypes.c_void_p(), ctypes.c_int()
cuda.cuInit(0); cuda.cuDeviceGet(ctypes.byref(device), 0); cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
time.sleep(1)
"""
    with GpuMemory() as memory:
        subprocess.run([sys.executable, "-c", code], check=True)
    return memory.peak


def bench(model, name, *flags, prompt=512, tokens=8, runs=2, limit=None):
    """A row: how near the pace of passes comes to the limit, for one token and for the prompt."""
    report = leveret("bench", model, "--device", "cuda", "--prompt-tokens", str(prompt), "--max-tokens", str(tokens),
                     "--runs", str(runs), *flags)
    row = {"case": name, "prompt_tokens": prompt, "flags": " ".join(flags), "resident_units": report["plan"]["tiers"].count("device"),
           "units": len(report["plan"]["tiers"]), "chunk": report["plan"]["chunk"],
           "first_ttft": report["first_ttft"], "ttft": report["ttft"],
           "own_limit_upload": report["limits"]["devices"][0]["upload"] / 1e9,
           "own_limit_read": report["limits"]["read"] / 1e9,
           "peak_device_bytes": report["peak_device_bytes"], "tokens": report["tokens"]}
    for kind in ("prefill", "decode"):
        pace = report[kind]
        row[kind] = {"seconds": pace["seconds"], "uploaded_bytes": pace["upload_bytes"],
                     "read_bytes": pace["read_bytes"], "gb_per_second": pace["upload_rate"] / 1e9,
                     "of_own_limit": pace["read_of_limit"] if pace["read_bytes"] else pace["upload_of_limit"]}
        if limit:
            row[kind]["of_limit"] = pace["upload_rate"] / 1e9 / limit
    return row


def ttft(model, runs=3):
    """Seconds from the start of a process to its end after one token, nothing compiled before it."""
    prompt = ",".join(str(1 + i) for i in range(32))
    seconds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as home:
            env = {**os.environ, "HOME": home, "XDG_CACHE_HOME": home, "CUDA_CACHE_PATH": home}
            start = time.perf_counter()
            subprocess.run([LEVERET, "generate", "--device", "cuda", "--model", model, "--tokens", prompt,
                            "--max-tokens", "1", "--quiet", *STREAMED, "--ram", "free"],
                           check=True, capture_output=True, env=env)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main(layers, peers):
    flags = ["--preset", "llama-3.1-8b", "--num-hidden-layers", layers]
    subprocess.run([LEVERET, "synth", MEMORY, *flags], check=True)
    link = raw_copy()
    reading = max(raw_read(MEMORY, threads, False) for threads in (8, 12, 16) for _ in range(2))
    rows = [
        bench(MEMORY, "all layers in page-locked RAM", *STREAMED, "--ram", "free", limit=link),
        bench(MEMORY, "all layers in files on tmpfs", *STREAMED, *FROM_FILES, limit=reading),
        bench(MEMORY, "half resident, the rest in RAM", "--vram", os.environ.get("HALF", "8800MiB"), "--ram", "free"),
        bench(MEMORY, "all resident", "--vram", "free"),
        bench(MEMORY, "in RAM, not page-locked", *STREAMED, "--ram", "free", "--no-pin", tokens=3, runs=1),
        bench(MEMORY, "in RAM, --transfer prefetch", *STREAMED, "--ram", "free", "--transfer", "prefetch", tokens=4),
        bench(MEMORY, "in RAM, --transfer sync", *STREAMED, "--ram", "free", "--transfer", "sync", tokens=4, runs=1),
    ]
    context = context_bytes()
    with GpuMemory() as memory:
        row = bench(MEMORY, "--vram 2GiB", "--vram", "2GiB", "--ram", "free", limit=link)
    rows.append({**row, "nvidia_smi_peak": memory.peak, "context_bytes": context, "less_context": memory.peak - context})
    rows.append(bench(MEMORY, "a prompt of 16384 tokens", "--vram", "4GiB", "--ram", "free", prompt=16384, tokens=2,
                      runs=1, limit=link))
    first = ttft(MEMORY)

    direct = None
    if shutil.disk_usage(os.path.dirname(DISK)).free > 1.2 * sum(map(os.path.getsize, glob.glob(f"{MEMORY}/*"))):
        shutil.rmtree(DISK, ignore_errors=True)
        shutil.copytree(MEMORY, DISK)
        drop_cache()
        before = raw_read(DISK, 16, True)
        rows.append(bench(DISK, "all layers on the disk, direct reads", *STREAMED, *FROM_FILES, tokens=3, runs=1))
        direct = statistics.median([before, raw_read(DISK, 16, True)])
        for kind in ("prefill", "decode"):
            rows[-1][kind]["of_limit"] = rows[-1][kind]["gb_per_second"] / direct
        shutil.rmtree(DISK)

    equal = all(row["tokens"][:3] == rows[0]["tokens"][:3] for row in rows if row["prompt_tokens"] == 512)
    for row in rows:
        del row["tokens"]
    gpu = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    report = {
        "command": f"benches/cuda.sh {layers}{' peers' if peers else ''}",
        "commit": os.environ.get("COMMIT", ""),
        "gpu": subprocess.run(gpu, capture_output=True, text=True).stdout.strip().splitlines()[0],
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "raw_copy_gb_per_second": link,
        "raw_read_tmpfs_gb_per_second": reading,
        "raw_read_disk_gb_per_second": direct,
        "ttft_from_process_start": first,
        "tokens_equal_in_all_rows": equal,
        "half_of_streamed": rows[2]["decode"]["seconds"] / rows[0]["decode"]["seconds"],
        "rows": rows,
    }
    if peers:
        here = os.path.dirname(os.path.abspath(__file__))
        run = subprocess.run([sys.executable, f"{here}/peers.py", MEMORY], capture_output=True, text=True)
        report["peers"] = json.loads(run.stdout) if run.returncode == 0 else run.stderr[-2000:]
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], "peers" in sys.argv[2:])
