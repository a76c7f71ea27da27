"""One client of `leveret serve` against several at once: tokens a second, and how long the first token takes.

  LEVERET=target/release/leveret python3 benches/server.py MODEL [FLAG ...] > benches/results/server.json

MODEL is a checkpoint, FLAGs go to `serve`, such as --ram 2GiB. A client sends a prompt of PROMPT (64) tokens of its own
and reads TOKENS (64) back as they come. CLIENTS (8) of them ask one after another first, then all at once; both are done
RUNS (3) times after one to warm up, in turns, and the medians told. What was read and how many passes it took is by the
server's own /metrics. Needs nothing but Python.
"""

import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

LEVERET = os.environ.get("LEVERET", "target/release/leveret")
PROMPT, TOKENS, CLIENTS, RUNS = (int(os.environ.get(*pair)) for pair in
                                 [("PROMPT", 64), ("TOKENS", 64), ("CLIENTS", 8), ("RUNS", 3)])
METRICS = ["passes_total", "read_bytes_total", "upload_bytes_total"]


def reply(address, prompt):
    """Seconds from the request to every token of its reply."""
    fields = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, "stream": True}
    connection = http.client.HTTPConnection(address)
    start = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(fields), {"Content-Type": "application/json"})
    times = []
    for line in connection.getresponse():
        if not line.startswith(b"data: ") or line == b"data: [DONE]\n":
            continue
        times.append(time.perf_counter() - start)
        if "choices" not in (event := json.loads(line[6:])):
            raise RuntimeError(event)
    if len(times) != TOKENS:
        raise RuntimeError(f"{len(times)} tokens came, not {TOKENS}")
    return times


def metrics(address):
    """The server's counters."""
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    values = dict(line.removeprefix("leveret_").split() for line in lines if not line.startswith("#"))
    return [float(values[name]) for name in METRICS]


def run(address, prompts, together):
    """What clients with these prompts got, one after another or at once."""
    times = [None] * len(prompts)

    def ask(client):
        times[client] = reply(address, prompts[client])

    before, start = metrics(address), time.perf_counter()
    clients = [threading.Thread(target=ask, args=[client]) for client in range(len(prompts))]
    for client in clients:
        client.start()
        if not together:
            client.join()
    [client.join() for client in clients]
    seconds = time.perf_counter() - start
    if None in times:
        raise RuntimeError("a client got no reply")
    tokens = TOKENS * len(prompts)
    taken = [(after - was) / tokens for after, was in zip(metrics(address), before)]
    return {
        "tokens_per_second": tokens / seconds,
        "client_tokens_per_second": statistics.median((TOKENS - 1) / (of[-1] - of[0]) for of in times),
        "first_token_seconds": statistics.median(of[0] for of in times),
        "slowest_first_token_seconds": max(of[0] for of in times),
        **{f"{name.removesuffix('_total')}_per_token": value for name, value in zip(METRICS, taken)},
    }


def main(model, *flags):
    with open(f"{model}/config.json") as file:
        config = json.load(file)
    vocabulary = config.get("text_config", config)["vocab_size"]
    numbers = random.Random(1)
    prompts = [[numbers.randrange(3, vocabulary) for _ in range(PROMPT)] for _ in range(CLIENTS)]
    command = [LEVERET, "serve", "--port", "0", "--max-sequences", str(CLIENTS), "--context", str(PROMPT + TOKENS)]
    server = subprocess.Popen([*command, *flags, model], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            raise RuntimeError("the server does not start")
        address = line.split("://")[1].strip()
        rounds = [[run(address, prompts, together) for together in (False, True)] for _ in range(RUNS + 1)]
    finally:
        server.terminate()
        server.wait()
    one, all_at_once = (
        {name: statistics.median(round[kind][name] for round in rounds[1:]) for name in rounds[0][kind]}
        for kind in (0, 1)
    )
    report = {
        "model": os.path.basename(os.path.abspath(model)), "flags": flags, "prompt": PROMPT, "tokens": TOKENS,
        "clients": CLIENTS, "runs": RUNS, "cores": os.cpu_count(), "one": one, "together": all_at_once,
        "together_to_one": all_at_once["tokens_per_second"] / one["tokens_per_second"],
    }
    print(json.dumps(report, indent=1))


main(*sys.argv[1:])
