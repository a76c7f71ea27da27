"""What packing costs in quality, beside llama.cpp's formats: the demo model's perplexity and KL divergence on a text.

  LEVERET=target/release/leveret python3 benches/quality.py > benches/results/quality.json

The reference is transformers in float32. The text, tests/fixtures/demo_text.txt, was written by the model itself:

  python3 benches/quality.py text > tests/fixtures/demo_text.txt

It is encoded whole and cut into windows of 160 tokens, each run on its own from position 0; perplexity is over all tokens
of a window but its first, KL(reference || packed) over all positions. The GGUF files hold the linear layers and the head
in the format named; rows that blocks of 32 do not divide (down_proj's 528) stay F16 there. llama.cpp rounds the activations
to 8 bits as well when weights are quantised; its KV cache is F32 here, so that it costs nothing.

Needs what cpu.py needs.
"""

import glob
import json
import os
import sys
import tempfile

from cpu import LlamaCpp, leveret, versions, write_gguf

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL, TEXT = f"{ROOT}/models/demo", f"{ROOT}/tests/fixtures/demo_text.txt"
WINDOW = 160
PROMPTS = ["The mansion in Saville Row", "Phileas Fogg", "Passepartout", "Chapter IX", "Mr. Fogg", "The detective",
           "Sir Francis Cromarty", "The train", "The steamer", "Aouda"]
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
                                    top_k=0, top_p=1.0, max_length=WINDOW, suppress_tokens=[0, 1, 2])
            print(encoder.decode(tokens[0].tolist()).replace("\ufffd", ""))


def log_softmax(logits):
    logits = logits.astype("float64")
    logits -= logits.max(-1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))


if sys.argv[1:] == ["text"]:
    write_text()
