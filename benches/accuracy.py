"""How far a device's logits are from transformers' on the fixtures: benches/accuracy.py [DEVICE] > OUT.json

In float32 against the float32 reference, and where a fixture has transformers' own bfloat16 logits, in bfloat16 beside
their distance. LEVERET names the command (default target/release/leveret). Needs numpy and safetensors.
"""

import glob
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from safetensors.numpy import load_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEVERET = os.environ.get("LEVERET", f"{ROOT}/target/release/leveret")


def verify(folder, device, dtype):
    """The report of one comparison, whatever its verdict."""
    run = subprocess.run([LEVERET, "verify", folder, "--device", device, "--dtype", dtype, "--json"],
                         capture_output=True, text=True)
    return json.loads(run.stdout) if run.stdout.startswith("{") else {"error": run.stderr.strip()}


def row(path, device):
    folder, reference = os.path.dirname(path), load_file(path)
    report = verify(folder, device, "float32")
    result = {"fixture": os.path.basename(folder), "float32": report}
    if "bf16_logits" in reference:
        own = verify(folder, device, "bfloat16")
        theirs = abs(reference["bf16_logits"] - reference["logits"]).max()
        result["bfloat16"] = {"max_abs_diff": own["prompt"]["max_abs_diff"], "transformers_max_abs_diff": float(theirs)}
    return result


def main(device="cuda"):
    paths = sorted(glob.glob(f"{ROOT}/tests/fixtures/*/reference.safetensors"))
    # Most of the time kernels are compiled, each by one core.
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(lambda path: row(path, device), paths))
    reports = [r["float32"] for r in rows]
    worst = max(max(part["max_abs_diff"] for part in (r["prompt"], r["greedy"]["logits"], r["batch"]["logits"]))
                for r in reports)
    equal = all(r["greedy"]["same_tokens"] and r["batch"]["same_tokens"] for r in reports)
    about = {"command": f"benches/accuracy.py {device}", "commit": os.environ.get("COMMIT", ""),
             "float32_max_abs_diff": worst, "float32_tokens_equal": equal}
    print(json.dumps({**about, "rows": rows}, indent=1))


main(*sys.argv[1:])
