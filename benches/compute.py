"""How fast a resident model computes on an NVIDIA GPU, beside PyTorch in the same run; prints one JSON object.

    cargo build --release --features cuda
    CUDA_PATH=/usr/local/cuda python3 benches/compute.py [LAYERS] > benches/results/compute.json

Weights of Llama-3.1-8B's shapes (32 layers unless LAYERS says otherwise) go to /dev/shm, in bf16 and packed, 45 GB in
all. A layer's time is the difference between all layers and half of them, so that embedding, head and sampling do not
count; TURNS (2) says how often each is measured. LEVERET names the command. PyTorch runs transformers'
LlamaForCausalLM with sdpa on the same shapes.
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
MEMORY = "/dev/shm/leveret-compute"
TURNS = int(os.environ.get("TURNS", 2))


def leveret(*args, as_json=True):
    """What a command prints."""
    run = subprocess.run([LEVERET, *args, *(["--json"] if as_json else [])], capture_output=True, text=True)
    if run.returncode and not as_json:
        raise SystemExit(f"{' '.join(args)}: {run.stderr.strip()[-300:]}")
    if run.returncode:
        return {"error": f"{' '.join(args)}: {run.stderr.strip()[-300:]}"}
    return json.loads(run.stdout) if as_json else run.stdout


def bench(model, prompt, tokens, *flags):
    return leveret("bench", model, "--device", "cuda", "--prompt-tokens", str(prompt), "--max-tokens", str(tokens),
                   "--runs", "3", *flags)


def checkpoints(layers):
    """Directories of all and of half of the layers, in bf16 and packed into 4 and 8 bits."""
    folders = {}
    for count in (layers, layers // 2):
        folder = f"{MEMORY}/bf16-{count}"
        leveret("synth", folder, "--preset", "llama-3.1-8b", "--num-hidden-layers", str(count), as_json=False)
        folders["bf16", count] = folder
        for bits in ("4", "8"):
            packed = f"{MEMORY}/int{bits}-{count}"
            leveret("pack", folder, packed, "--bits", bits, as_json=False)
            folders[f"int{bits}", count] = packed
    return folders


def resident(folders, weights, layers, prompt, tokens, *flags):
    """Milliseconds of a decode pass and of a prefill, a layer and as a whole: medians of TURNS turns."""
    row = {"weights": weights, "prompt": prompt, "flags": list(flags)}
    turns = [[bench(folders[weights, count], prompt, tokens, *flags) for count in (layers, layers // 2)]
             for _ in range(TURNS)]
    failed = [report for turn in turns for report in turn if "error" in report]
    if failed:
        return {**row, **failed[0]}
    for part in ("decode", "prefill"):
        whole, half = (statistics.median(turn[i][part]["seconds"] for turn in turns) for i in (0, 1))
        row[part] = {"ms": 1e3 * whole, "ms_a_layer": 1e3 * (whole - half) / (layers - layers // 2)}
    whole = turns[0][0]
    return {**row, "first_ttft": whole["first_ttft"], "peak_device_bytes": whole["peak_device_bytes"]}


def torch_rows(layers):
    """Milliseconds a layer of transformers' prefill."""
    # `cuda.py` beside this file would hide a package of that name, so its folder is not looked in.
    program = f"import runpy; runpy.run_path({os.path.abspath(__file__)!r})['torch_report']({layers})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    return json.loads(run.stdout) if run.returncode == 0 else [{"error": run.stderr[-500:]}]


def torch_report(layers):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def times(count):
        config = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=count, vocab_size=32000,
                             num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192)
        with torch.device("cuda"):
            torch.set_default_dtype(torch.bfloat16)
            model = LlamaForCausalLM(config).eval()
        found = {}
        for prompt in (512, 2048):
            ids = torch.randint(0, 1000, (1, prompt), device="cuda")
            runs = []
            with torch.no_grad():
                for _ in range(8):
                    torch.cuda.synchronize()
                    start = time.perf_counter()
                    model(ids, use_cache=True, logits_to_keep=1)
                    torch.cuda.synchronize()
                    runs.append(time.perf_counter() - start)
            found[prompt] = statistics.median(runs[2:])
        del model
        torch.cuda.empty_cache()
        return found

    whole, half = times(layers), times(layers // 2)
    print(json.dumps([{"prompt": prompt, "prefill_ms_a_layer": 1e3 * (whole[prompt] - half[prompt]) / (layers - layers // 2)}
                      for prompt in whole]))


def main(layers=32):
    layers = int(layers)
    shutil.rmtree(MEMORY, ignore_errors=True)
    os.makedirs(MEMORY)
    try:
        folders = checkpoints(layers)
        rows = [resident(folders, weights, layers, 1024, 32) for weights in ("bf16", "int4", "int8")]
        rows.append(resident(folders, "bf16", layers, 1024, 32, "--batch", "16"))
        rows.append(resident(folders, "bf16", layers, 512, 2))
        rows.append(resident(folders, "bf16", layers, 2048, 2))
        for row in rows[-2:]:
            row.pop("decode", None)  # of one token
        # Room for two slots and little else, so that bytes a token are those of nearly all layers.
        streamed = []
        for weights, vram in (("bf16", "1200MiB"), ("int4", "400MiB")):
            report = bench(folders[weights, layers], 32, 8, "--vram", vram)
            streamed.append({"weights": weights, "vram": vram,
                             **{part: report.get(part) for part in ("decode", "limits", "error")}})
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        name, driver = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()[0].split(", ")
        about = {"device": name, "driver": driver, "command": f"benches/compute.py {layers}",
                 "commit": os.environ.get("COMMIT", ""), "layers": layers, "turns": TURNS}
        print(json.dumps({**about, "resident": rows, "streamed": streamed, "torch": torch_rows(layers)}, indent=1))
    finally:
        shutil.rmtree(MEMORY, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
