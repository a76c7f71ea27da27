"""What packing costs in quality, beside llama.cpp's formats: the demo model's perplexity and KL divergence on a text.

  LEVERET=target/release/leveret python3 benches/quality.py > benches/results/quality.json

The reference is transformers in float32. The text, tests/fixtures/demo_text.txt, was written by the model itself:

  python3 benches/quality.py text > tests/fixtures/demo_text.txt

It is encoded whole and cut into windows of 160 tokens, each run on its own from position 0; perplexity is over all
tokens of a window but its first, KL(reference || packed) over all positions. The GGUF files hold the linear layers and
the head in the format named; rows that blocks of 32 do not divide (down_proj's 528) stay F16 there. llama.cpp rounds
activations to 8 bits as well where weights are quantised; its KV cache is F32 here, so that it costs nothing.
Leveret leaves down_proj dense, too. bits_per_weight is over linear layers and head.

Needs what cpu.py needs.
"""

import glob
import json
import math
import os
import sys
import tempfile

import numpy

from cpu import LlamaCpp, leveret, versions, write_gguf

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL, TEXT = f"{ROOT}/models/demo", f"{ROOT}/tests/fixtures/demo_text.txt"
WINDOW = 160
PROMPTS = ["The mansion in Saville Row", "Phileas Fogg", "Passepartout", "Chapter IX", "Mr. Fogg", "The detective",
           "Sir Francis Cromarty", "The train", "The steamer"]
GGUF = ["F32", "BF16", "Q8_0", "Q4_1", "Q4_0"]
PACKED = {"8 bits": ["--bits", "8"], "8 bits, float": ["--bits", "8", "--float"], "4 bits": ["--bits", "4"]}


def reference_model():
    import torch
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


def tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_file(f"{MODEL}/tokenizer.json")


def write_text():
    """Samples at temperature 1: WINDOW tokens from each prompt, four times, with no end in between."""
    import torch

    torch.manual_seed(0)
    model, encoder = reference_model(), tokenizer()
    for _ in range(4):
        for prompt in PROMPTS:
            tokens = torch.tensor([encoder.encode(prompt).ids])
            tokens = model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=True, temperature=1.0,
                                    top_k=0, top_p=1.0, max_new_tokens=WINDOW - tokens.shape[1],
                                    suppress_tokens=[0, 1, 2])
            print(encoder.decode(tokens[0].tolist()).replace("\ufffd", ""))


def windows():
    """The token ids of the text, cut."""
    with open(TEXT, encoding="utf-8") as file:
        tokens = tokenizer().encode(file.read()).ids
    return [tokens[at:at + WINDOW] for at in range(0, len(tokens) - 1, WINDOW)]


def log_softmax(logits):
    logits = logits.astype("float64")
    logits -= logits.max(-1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))


def reference(tokens):
    import torch

    model = reference_model()
    with torch.inference_mode():
        return [log_softmax(model(torch.tensor([window])).logits[0].numpy()) for window in tokens]


def compare(tokens, expected, got):
    """Perplexity and mean KL(expected || got) of log-probabilities by window and position."""
    loss = [-q[range(len(window) - 1), window[1:]] for window, q in zip(tokens, got)]
    kl = [(numpy.exp(p) * (p - q)).sum(-1) for p, q in zip(expected, got)]
    return {"perplexity": float(numpy.exp(numpy.concatenate(loss).mean())),
            "mean_kl": float(numpy.concatenate(kl).mean())}


def llama_cpp(folder, kind, tokens, expected):
    path = f"{folder}/{kind}.gguf"
    bits = write_gguf(MODEL, path, kind)
    model = LlamaCpp(path, 256, type_k=0, type_v=0)  # F32
    got = []
    for window in tokens:
        model.clear()
        got.append(log_softmax(model.forward(window, each=True)))
    return {"party": "llama.cpp", "format": kind, "bits_per_weight": bits, **compare(tokens, expected, got)}


def packed(folder, format, flags):
    """Leveret's own comparison, in float32, of a packed model with the one it was packed from."""
    path = f"{folder}/{format.replace(', ', '-').replace(' ', '-')}"
    row = {"party": "leveret", "format": format}
    try:
        leveret("pack", MODEL, path, *flags)
        report = json.loads(leveret("verify", path, "--against", MODEL, "--text", TEXT, "--device", "cpu",
                                    "--dtype", "float32", "--json"))
    except RuntimeError as error:
        return {**row, "error": str(error)}
    return {**row, "bits_per_weight": bits_per_weight(path), "perplexity": report["perplexity"],
            "mean_kl": report["mean_kl"], "reference_perplexity": report["reference_perplexity"]}


def tensors(folder):
    """Shape and bytes of each tensor, by the headers of the files."""
    found = {}
    for path in glob.glob(f"{folder}/*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        found |= {name: (t["shape"], t["data_offsets"][1] - t["data_offsets"][0]) for name, t in header.items()}
    return found


def bits_per_weight(folder):
    """Of all tensors but norms; the embedding is the head, unless there is one beside it."""
    weights, found = sum(math.prod(shape) for shape, _ in tensors(MODEL).values() if len(shape) > 1), tensors(folder)
    skip = ("norm", "embed_tokens") if any(name.startswith("lm_head") for name in found) else ("norm",)
    return 8 * sum(size for name, (_, size) in found.items() if not any(word in name for word in skip)) / weights


def main():
    tokens = windows()
    expected = reference(tokens)
    own = {"party": "transformers", "format": "F32", **compare(tokens, expected, expected)}
    with tempfile.TemporaryDirectory() as folder:
        rows = [own, *(llama_cpp(folder, kind, tokens, expected) for kind in GGUF),
                *(packed(folder, format, flags) for format, flags in PACKED.items())]
    about = {"command": "benches/quality.py", "commit": os.environ.get("COMMIT", ""), "model": "models/demo",
             "text": os.path.relpath(TEXT, ROOT), "tokens": sum(map(len, tokens)), "windows": len(tokens),
             "versions": versions("llama-cpp-python", "torch", "transformers")}
    print(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    write_text() if sys.argv[1:] == ["text"] else main()
