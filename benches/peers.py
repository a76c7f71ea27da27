"""AirLLM and Hugging Face accelerate on a Llama checkpoint, to hold Leveret against; prints one JSON object.

  leveret synth /dev/shm/model --preset llama-3.1-8b
  python3 benches/peers.py /dev/shm/model [--layers-in ram|disk|both] [--passes N] > peers.json

Needs torch, transformers, accelerate, and AirLLM: `pip install --no-deps airllm==4.0.0`, or PYTHONPATH=its wheel.
Every row is a process of its own with a time limit (LIMITS): prompt 1,2,3,4 as warm-up, then N greedy tokens, one a
pass, with KV cache. --layers-in chooses accelerate's rows, decoder layers in RAM or in the checkpoint's files; AirLLM
knows only files, its own, which lie beside the checkpoint while it runs. Without a GPU all runs on the CPU, as a trial.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

PROMPT = [1, 2, 3, 4]
LIMITS = {"airllm": 100, "accelerate": 45}  # seconds a row, loading included


def airllm(model, device, weights, scratch):
    """AirLLM at its best: prefetching, nothing compressed. It streams embedding, norm and head as well."""
    from airllm import AirLLMBaseModel  # what its AutoModel takes for a Llama

    class WithoutTokenizer(AirLLMBaseModel):
        def get_tokenizer(self, hf_token=None):
            return None

    return WithoutTokenizer(model, device=device, layer_shards_saving_path=scratch, prefetching=True)


def accelerate(model, device, weights, scratch):
    """transformers with a device_map: decoder layers on "cpu" or "disk", the rest on the GPU.

    Both map the checkpoint's files: "cpu" for good, "disk" anew for every tensor.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    outer = ["model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"]
    places = {name: 0 if device.startswith("cuda") else device for name in outer}
    places |= {f"model.layers.{i}": weights for i in range(config.num_hidden_layers)}
    folder = os.path.join(scratch, "offload")
    made = AutoModelForCausalLM.from_pretrained(model, dtype=config.dtype, device_map=places, offload_folder=folder)
    if any(os.scandir(folder) if os.path.exists(folder) else []):
        raise RuntimeError("accelerate wrote weights again instead of reading the checkpoint")
    return made.eval()


def measure(peer, model, weights, scratch, passes, send):
    """In a process of its own: sends ("load", seconds), then ("pass", seconds, token) each, then ("end", what else)."""
    os.dup2(2, 1)  # what the peers print is no JSON
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch

        cuda = torch.cuda.is_available()
        device = "cuda:0" if cuda else "cpu"
        sync = torch.cuda.synchronize if cuda else lambda: None
        start = time.perf_counter()
        forward = {"airllm": airllm, "accelerate": accelerate}[peer](model, device, weights, scratch)
        sync()
        send.send(("load", time.perf_counter() - start))
        tokens, cache, seen = torch.tensor([PROMPT], device=device), None, 0
        with torch.no_grad():
            for _ in range(1 + passes):
                sync()
                start = time.perf_counter()
                out = forward(input_ids=tokens, past_key_values=cache, use_cache=True)
                seen += tokens.shape[1]
                tokens, cache = out.logits[:, -1:].argmax(-1).to(device), out.past_key_values
                sync()
                seconds = time.perf_counter() - start
                if cache.get_seq_length() != seen:
                    raise RuntimeError(f"the KV cache holds {cache.get_seq_length()} of {seen} positions")
                send.send(("pass", seconds, tokens.item()))
        send.send(("end", {
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "peak_gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        }))
    except BaseException as error:
        traceback.print_exc()
        send.send(("error", f"{type(error).__name__}: {error}"))


def row(peer, label, uploaded, model, weights, passes):
    """One row; what fails or takes too long is told in its `error`, with the passes that were done."""
    limit, loading, seconds, tokens, about, error = LIMITS[peer], None, [], [], {}, None
    try:
        version = importlib.metadata.version(peer)
    except importlib.metadata.PackageNotFoundError:
        version = None
    # Beside the checkpoint: AirLLM then links files that hold exactly one layer instead of copying them.
    with tempfile.TemporaryDirectory(prefix="peers-", dir=os.path.dirname(model)) as scratch:
        spawn = multiprocessing.get_context("spawn")
        receive, send = spawn.Pipe(duplex=False)
        worker = spawn.Process(target=measure, args=(peer, model, weights, scratch, passes, send))
        deadline = time.monotonic() + limit
        worker.start()
        send.close()
        while error is None and not about:
            if not receive.poll(max(0, deadline - time.monotonic())):
                error = f"stopped after {limit} s"
                break
            try:
                what, *rest = receive.recv()
            except EOFError:
                worker.join(10)
                error = f"its process ended with code {worker.exitcode}"
                break
            if what == "load":
                loading = rest[0]
            elif what == "pass":
                seconds.append(rest[0])
                tokens.append(rest[1])
            elif what == "end":
                about = rest[0]
            else:
                error = rest[0]
        worker.join(10 if about else 0)
        worker.kill()
        worker.join()
    decode = seconds[1:]
    median = statistics.median(decode) if decode else None
    return {
        "peer": peer,
        "version": version,
        "weights": label,
        "load_seconds": loading,
        "warm_up_seconds": seconds[0] if seconds else None,
        "passes": decode,
        "seconds_per_token": median,
        "uploaded_bytes": uploaded,
        "gb_per_second": uploaded / median / 1e9 if median else None,
        **about,
        "tokens": tokens,
        "error": error,
    }


def tensor_bytes(model):
    """Bytes of each tensor, by the headers of the files."""
    sizes = {}
    for path in pathlib.Path(model).glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        sizes |= {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()}
    return sizes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL_DIR", type=os.path.realpath)
    parser.add_argument("--layers-in", choices=["ram", "disk", "both"], default="both")
    parser.add_argument("--passes", type=int, default=3)
    args = parser.parse_args()

    sizes = tensor_bytes(args.model)
    layers = sum(size for name, size in sizes.items() if name.startswith("model.layers."))
    # AirLLM keeps a tied embedding on the GPU.
    tied = json.loads(pathlib.Path(args.model, "config.json").read_text()).get("tie_word_embeddings", False)
    kept = sizes.get("model.embed_tokens.weight", 0) if tied else 0
    files = subprocess.run(["stat", "-f", "-c", "%T", args.model], capture_output=True, text=True).stdout.strip()
    cases = [("airllm", f"{files} files", sum(sizes.values()) - kept, "disk")]
    if args.layers_in != "disk":
        cases.append(("accelerate", "cpu", layers, "cpu"))
    if args.layers_in != "ram":
        cases.append(("accelerate", "disk", layers, "disk"))

    gpu = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    report = {
        "command": " ".join(["benches/peers.py", *sys.argv[1:]]),
        "gpu": subprocess.run(gpu, capture_output=True, text=True).stdout.strip() if shutil.which(gpu[0]) else None,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "torch": importlib.metadata.version("torch"),
        "transformers": importlib.metadata.version("transformers"),
        "checkpoint_bytes": sum(sizes.values()),
        "decoder_layer_bytes": layers,
        "files_on": files,
        "note": "AirLLM 4 has no way to keep layers in RAM, but files on tmpfs are RAM; uploaded_bytes are what a pass "
        "must bring to the GPU: all weights for AirLLM (but a tied embedding), the decoder layers for accelerate.",
        "rows": [],
    }
    for peer, label, uploaded, weights in cases:
        print(f"{peer}, {label}", file=sys.stderr)
        report["rows"].append(row(peer, label, uploaded, args.model, weights, args.passes))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
