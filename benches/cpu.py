"""A model that lies whole in memory on the CPU, against llama.cpp and torch on the same checkpoint in the same run.

  LEVERET=target/release/leveret python3 benches/cpu.py [WORKDIR] > benches/results/cpu.json

Llama-3.2-1B's shapes, 4 layers and 8000 tokens, with random weights; a prompt of 256 tokens, then 32 passes of one
token each, on all cores. The parties take turns, TURNS (3) each, every turn a process with one run to warm up and three
that count, so that a machine that drifts drifts for all. A turn waits up to a minute until other processes take no more
than a fiftieth of the cores, and is taken again, twice at most, if they take more while it runs: threads that wait for
one another in a loop, as the peers' do, suffer far more from them than Leveret. What they took stands in others_turns.
In the GGUF files the head has the format of the linear layers; all else is F32. Threads, KV cache, attention and the
like are as each party has them by default.

Needs llama-cpp-python (built for this machine; if it crashes on quantised formats, without AMX), gguf, safetensors, torch and transformers. WORKDIR, by default a folder
that is gone afterwards, takes 3 GB; checkpoint and GGUF files that lie in it are used again.
"""

import glob
import importlib.metadata
import json
import os
import random
import resource
import shutil
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
DISTURBED, AGAIN, PATIENCE = 0.02, 2, 60

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

        self.lib = llama_cpp
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

    def forward(self, tokens, each=False):
        """Goes on with these tokens; returns the logits after the last, or after each."""
        import numpy

        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i] = token, self.seen + i
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, 0
            self.batch.logits[i] = each or i == len(tokens) - 1
        self.batch.n_tokens = len(tokens)
        if code := self.lib.llama_decode(self.run, self.batch):
            raise RuntimeError(f"llama_decode: {code}")
        self.seen += len(tokens)
        rows = len(tokens) if each else 1
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
    """Tokens a second over the prompt and one by one, greedy, by the median pass of the runs after the first."""
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
        raise RuntimeError(f"code {run.returncode}: {run.stderr.strip()[-1000:]}")
    return json.loads(run.stdout)


def others():
    """Seconds of all cores that went to processes that are not of this benchmark, so far."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - ours


def share_of_others(work):
    """What `work` returns, and the fraction of the cores that went to other processes meanwhile."""
    start, before = time.perf_counter(), others()
    result = work()
    return result, max(0, others() - before) / (time.perf_counter() - start) / THREADS


def quiet_turn(*row):
    """A turn once others are quiet, again if they disturb it; of all the one disturbed least, and by what fraction."""
    turns = []
    for _ in range(1 + AGAIN):
        for _ in range(PATIENCE):
            if share_of_others(lambda: time.sleep(1))[1] <= DISTURBED:
                break
        turns.append(share_of_others(lambda: turn(*row)))
        if turns[-1][1] <= DISTURBED:
            break
    return min(turns, key=lambda turn: turn[1])


def prepare(work, party, format, flags):
    """The checkpoint or the file that a party runs, made if need be."""
    model = f"{work}/model"
    if not os.path.exists(f"{model}/config.json"):
        shape = ["--num-hidden-layers", str(LAYERS), "--vocab-size", str(VOCABULARY)]
        leveret("synth", model, "--preset", "llama-3.2-1b", *shape)
    if party == "llama.cpp":
        path = f"{work}/{format}.gguf"
        if not os.path.exists(path):
            write_gguf(model, f"{path}.part", format)
            os.rename(f"{path}.part", path)
        return path
    if flags is None:
        return model
    path = f"{work}/{format.replace(' ', '-')}"
    shutil.rmtree(path, ignore_errors=True)
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
                rates, share = quiet_turn(row["party"], row["path"], row["format"])
            except Exception as error:
                row["error"] = str(error)
                continue
            for kind, value in {**rates, "others": share}.items():
                row.setdefault(f"{kind}_turns", []).append(value)
    for row in rows:
        row.pop("path", None)
        if "error" not in row:
            for kind in ("prefill", "decode"):
                row[f"{kind}_tokens_per_second"] = statistics.median(row[f"{kind}_turns"])

    done = {(row["party"], row["format"]): row for row in rows if "error" not in row}
    ratios = {}
    for kind in ("decode", "prefill"):
        rate = {key: row[f"{kind}_tokens_per_second"] for key, row in done.items()}
        ratios[kind] = {f"leveret {own} / {party} {format}": rate["leveret", own] / rate[party, format]
                        for own, party, format in RATIOS if ("leveret", own) in done and (party, format) in done}
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "")
    about = {"command": "benches/cpu.py", "commit": os.environ.get("COMMIT", ""), "cpu": cpu, "cores": THREADS,
             "layers": LAYERS, "vocabulary": VOCABULARY, "prompt_tokens": PROMPT, "decoded_tokens": TOKENS,
             "runs": RUNS, "turns": TURNS, "versions": versions("llama-cpp-python", "torch", "transformers")}
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
