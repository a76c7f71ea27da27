"""A model that lies whole in memory on the CPU, against llama.cpp and torch on the same checkpoint in the same run.

  LEVERET=target/release/leveret python3 benches/cpu.py [WORKDIR] > benches/results/cpu.json

Llama-3.2-1B's shapes, 4 layers and 8000 tokens, with random weights; a prompt of 256 tokens, then 32 passes of one token
each, on all cores. The parties take turns, each turn a process of its own with one run to warm up, so that a machine that
drifts drifts for all. In the GGUF files the head has the format of the linear layers; all else is F32.

Needs llama-cpp-python (built for this machine), gguf, safetensors, torch and transformers. WORKDIR, a new one in the
system's folder for temporary files by default, takes 3 GB; what lies in it is used again.
"""

import ctypes
import glob
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

# This folder has a cuda.py, which torch would take for the package of that name.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path = [path for path in sys.path if path != HERE]

LEVERET = os.environ.get("LEVERET", "target/release/leveret")
THREADS = os.cpu_count()
PROMPT, TOKENS, RUNS, TURNS = 256, 32, 3, int(os.environ.get("TURNS", 3))
LAYERS, VOCABULARY = 4, 8000

# Whose turn it is, in what format, and for Leveret what makes it of the checkpoint.
PARTIES = [
    ("leveret", "BF16", None),
    ("llama.cpp", "BF16", None),
    ("torch", "BF16", None),
    ("leveret", "8 bits", ["--bits", "8"]),
    ("llama.cpp", "Q8_0", None),
    ("leveret", "4 bits", ["--bits", "4"]),
    ("llama.cpp", "Q4_0", None),
    ("llama.cpp", "Q4_1", None),
    ("torch", "F32", None),
]
RATIOS = [("BF16", "llama.cpp", "BF16"), ("8 bits", "llama.cpp", "Q8_0"), ("4 bits", "llama.cpp", "Q4_0"),
          ("4 bits", "llama.cpp", "Q4_1"), ("BF16", "torch", "BF16"), ("BF16", "torch", "F32")]


def leveret(*args):
    """What a command prints."""
    run = subprocess.run([LEVERET, *args], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"leveret {' '.join(args)}: {run.stderr.strip()}")
    return run.stdout


def write_gguf(model, path, kind):
    """Writes a Llama checkpoint as GGUF, its linear layers and its head in the format `kind`, all else in F32.

    Rows that the format's blocks do not divide stay F16. There is no tokenizer in it. Returns the bits a weight takes
    in the linear layers and the head.
    """
    import gguf
    from safetensors.torch import load_file

    with open(f"{model}/config.json") as file:
        config = json.load(file)
    kind, layers = gguf.GGMLQuantizationType[kind], config["num_hidden_layers"]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    head_dim = config.get("head_dim") or config["hidden_size"] // heads["q_proj"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads["q_proj"])
    writer.add_head_count_kv(heads["k_proj"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])

    tensors = {name: tensor for file in glob.glob(f"{model}/*.safetensors") for name, tensor in load_file(file).items()}
    tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    size = weights = 0
    for name, tensor in tensors.items():
        data, target = tensor.float().numpy(), names.get_name(name, try_suffixes=(".weight",))
        if n := heads.get(name.split(".")[-2]):  # its rotation pairs neighbours, not halves
            data = data.reshape(n, 2, -1, data.shape[-1]).swapaxes(1, 2).reshape(data.shape)
        if data.ndim == 1 or "embed_tokens" in name:
            writer.add_tensor(target, data)
            continue
        whole = data.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        format = kind if whole else gguf.GGMLQuantizationType.F16
        packed = gguf.quants.quantize(data, format)
        writer.add_tensor(target, packed, raw_dtype=format)
        size, weights = size + packed.nbytes, weights + data.size
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return 8 * size / weights


class LlamaCpp:
    """A GGUF file in llama.cpp, by its C interface: the Python class above it would want a tokenizer."""

    def __init__(self, path, context, **params):
        import llama_cpp

        self.lib, self.context = llama_cpp, context
        self.silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silent, None)
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        params = {"n_ctx": context, "n_batch": context, "n_ubatch": context, **params}
        for name, value in {**params, "n_threads": THREADS, "n_threads_batch": THREADS}.items():
            setattr(settings, name, value)
        self.run = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.run:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(context, 0, 1)
        self.clear()

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.run), True)
        self.seen = 0

    def forward(self, tokens, all=False):
        """Goes on with these tokens; returns the logits after the last, or after each."""
        import numpy

        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i] = token, self.seen + i
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, 0
            self.batch.logits[i] = all or i == len(tokens) - 1
        self.batch.n_tokens = len(tokens)
        if code := self.lib.llama_decode(self.run, self.batch):
            raise RuntimeError(f"llama_decode: {code}")
        self.seen += len(tokens)
        rows = len(tokens) if all else 1
        return numpy.ctypeslib.as_array(self.lib.llama_get_logits(self.run), (rows, self.vocabulary)).copy()


class Torch:
    """A checkpoint in transformers."""

    def __init__(self, model, dtype):
        import torch
        from transformers import LlamaForCausalLM

        torch.set_num_threads(THREADS)
        self.torch = torch
        dtype = {"BF16": torch.bfloat16, "F32": torch.float32}[dtype]
        self.model = LlamaForCausalLM.from_pretrained(model, dtype=dtype).eval()
        self.clear()

    def clear(self):
        self.cache = None

    def forward(self, tokens):
        with self.torch.inference_mode():
            out = self.model(self.torch.tensor([tokens]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = out.past_key_values
        return out.logits[0].float().numpy()


def peer(model):
    """Seconds of the passes over the prompt and of those over one token, greedy, after one run that warms up."""
    prompt = random.Random(0).choices(range(VOCABULARY), k=PROMPT)
    prefill, decode = [], []
    for run in range(1 + RUNS):
        model.clear()
        tokens, times = prompt, []
        for _ in range(1 + TOKENS):
            start = time.perf_counter()
            logits = model.forward(tokens)
            times.append(time.perf_counter() - start)
            tokens = [int(logits[-1].argmax())]
        if run:
            prefill.append(times[0])
            decode += times[1:]
    return {"prefill": PROMPT / statistics.median(prefill), "decode": 1 / statistics.median(decode)}


def turn(party, path, format):
    """Tokens a second of one turn."""
    if party == "leveret":
        report = json.loads(leveret("bench", path, "--device", "cpu", "--ram", "free", "--prompt-tokens", str(PROMPT),
                                    "--max-tokens", str(TOKENS + 1), "--runs", str(RUNS), "--json"))
        return {kind: report[kind]["tokens_per_second"] for kind in ("prefill", "decode")}
    run = subprocess.run([sys.executable, __file__, "--turn", party, path, format], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"code {run.returncode}")
    return json.loads(run.stdout)


def prepare(work, party, format, flags):
    """The checkpoint or the file that a party runs, made if it is not there."""
    model = f"{work}/model"
    if not os.path.exists(f"{model}/config.json"):
        flags_of_model = ["--num-hidden-layers", str(LAYERS), "--vocab-size", str(VOCABULARY)]
        leveret("synth", model, "--preset", "llama-3.2-1b", *flags_of_model)
    if party == "llama.cpp":
        path = f"{work}/{format}.gguf"
        if not os.path.exists(path):
            write_gguf(model, f"{path}.part", format)
            os.rename(f"{path}.part", path)
        return path
    if flags is None:
        return model
    path = f"{work}/{format.replace(' ', '-')}"
    if not os.path.exists(f"{path}/config.json"):
        leveret("pack", model, path, *flags)
    return path


def size(path):
    return sum(map(os.path.getsize, glob.glob(f"{path}/*.safetensors") if os.path.isdir(path) else [path]))


def versions(*packages):
    return {package: importlib.metadata.version(package) for package in packages}


def main(work):
    rows = []
    for party, format, flags in PARTIES:
        row = {"party": party, "format": format}
        try:
            row["path"] = prepare(work, party, format, flags)
            row["file_bytes"] = size(row["path"])
        except Exception as error:
            row["error"] = str(error)
        rows.append(row)
    for _ in range(TURNS):
        for row in rows:
            if "error" in row:
                continue
            print(row["party"], row["format"], file=sys.stderr)
            try:
                rates = turn(row["party"], row["path"], row["format"])
            except Exception as error:
                row["error"] = str(error)
                continue
            for kind, rate in rates.items():
                row.setdefault(f"{kind}_turns", []).append(rate)
    for row in rows:
        row.pop("path", None)
        if "error" not in row:
            for kind in ("prefill", "decode"):
                row[f"{kind}_tokens_per_second"] = statistics.median(row[f"{kind}_turns"])

    done = {(row["party"], row["format"]): row for row in rows if "error" not in row}
    ratios = {kind: {f"leveret {own} / {party} {format}":
                     done["leveret", own][f"{kind}_tokens_per_second"] / done[party, format][f"{kind}_tokens_per_second"]
                     for own, party, format in RATIOS if ("leveret", own) in done and (party, format) in done}
              for kind in ("decode", "prefill")}
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    about = {"command": "benches/cpu.py", "commit": os.environ.get("COMMIT", ""), "cpu": cpu, "cores": THREADS,
             "layers": LAYERS, "vocabulary": VOCABULARY, "prompt_tokens": PROMPT, "decoded_tokens": TOKENS, "runs": RUNS,
             "turns": TURNS, "versions": versions("llama-cpp-python", "torch", "transformers")}
    print(json.dumps({**about, "ratios": ratios, "rows": rows}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--turn"]:
        party, path, format = sys.argv[2:]
        print(json.dumps(peer(LlamaCpp(path, 512) if party == "llama.cpp" else Torch(path, format))))
    elif len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(folder)
