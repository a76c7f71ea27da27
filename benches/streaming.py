"""How near streaming comes to its limit, max(reading the bytes alone, computing alone); see streaming.sh."""

import glob
import json
import mmap
import os
import platform
import statistics
import subprocess
import sys
import threading
import time

LEVERET = "target/release/leveret"
PASSES = 9
CHUNK = 4 << 20
READERS = 4


def memory():
    """Two slots of 128 MiB on huge pages: into small pages direct reads run at half the rate."""
    buffer = mmap.mmap(-1, 256 << 20)
    buffer.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(buffer), 4096):
        buffer[at] = 1
    return memoryview(buffer)


SLOTS = memory()


def read_alone(files, direct):
    """Seconds to read all files into memory with READERS threads, past the page cache or through it."""
    flags = os.O_RDONLY | (os.O_DIRECT if direct else 0)
    chunks = [(os.open(f, flags), at) for f in files for at in range(0, os.path.getsize(f), CHUNK)]
    jobs = iter([(fd, at, i * CHUNK % len(SLOTS)) for i, (fd, at) in enumerate(chunks)])
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            fd, at, to = job
            os.preadv(fd, [SLOTS[to:to + CHUNK]], at)

    start = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(READERS)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    return time.perf_counter() - start


def generate(model, *flags):
    """The JSON report of one run of PASSES passes after the prompt."""
    command = [LEVERET, "generate", "--json", "--ignore-eos", "--temperature", "0", "--tokens", "1,2,3,4"]
    command += ["--max-tokens", str(PASSES + 1), "--model", model, *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def seconds(report):
    return statistics.median(p["seconds"] for p in report["stats"]["decode"])


def drop_cache():
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def main(model):
    if not os.path.exists(f"{model}/config.json"):
        flags = ["--preset", "llama-3.2-1b", "--num-hidden-layers", "22"]
        subprocess.run([LEVERET, "synth", model, *flags], check=True)
    files = sorted(glob.glob(f"{model}/*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    computing = seconds(generate(model, "--ram", "free"))
    rows = []
    for cache in ["warm", "cold"]:
        for transfer in ["async", "sync"]:
            try:
                drop_cache()
            except PermissionError:
                continue
            if cache == "warm":
                read_alone(files, direct=False)
            before = [read_alone(files, direct=cache == "cold") for _ in range(2)]
            report = generate(model, "--ram", "400MiB", "--transfer", transfer)
            after = [read_alone(files, direct=cache == "cold") for _ in range(2)]
            passes = report["stats"]["decode"]
            streamed = statistics.median(p["read_bytes"] for p in passes)
            # Reading alone, of the bytes that a pass reads.
            reading = statistics.median(before + after) * streamed / size
            rows.append({
                "page_cache": cache,
                "transfer": transfer,
                "pass_seconds": seconds(report),
                "reading_alone_seconds": reading,
                "computing_alone_seconds": computing,
                "ratio_to_the_larger": seconds(report) / max(reading, computing),
                "ratio_to_the_sum": seconds(report) / (reading + computing),
                "wait_seconds": statistics.median(p["wait_read_seconds"] + p["wait_upload_seconds"] for p in passes),
                "bytes_a_pass": streamed,
                "planned_bytes": report["stats"]["planned_bytes"],
                "peak_memory": report["peak_memory"],
            })
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    about = {"command": "benches/streaming.sh", "commit": commit, "cpu": cpu, "cores": os.cpu_count(),
             "kernel": platform.release(), "weights_bytes": size, "ram_budget": 400 << 20, "passes": PASSES}
    print(json.dumps({**about, "rows": rows}, indent=1))


main(sys.argv[1])
