"""Draws a part of a trace, its lanes one above the other: benches/trace.py TRACE.json OUT.png [FROM_MS] [TO_MS]

TRACE.json is what `leveret generate --trace TRACE.json` writes; shown are 100 ms of the last pass but one
unless FROM_MS and TO_MS (from the beginning of the trace) say otherwise. Needs matplotlib.
"""

import json
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

COLOURS = {"read": "#4c78a8", "upload": "#f58518", "compute": "#54a24b"}


def spans(events):
    """(lane, name, unit, start, end) in milliseconds, of threads that have some."""
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    begun = {}
    for e in events:
        if e["ph"] == "B":
            begun[e["tid"], e["name"]] = e
        elif e["ph"] == "E" and (b := begun.pop((e["tid"], e["name"]), None)):
            if e["name"] in COLOURS:
                lane = e["name"] if e["name"] != "read" else names.get(e["tid"], "").replace("leveret-", "")
                yield lane, e["name"], b["args"].get("unit"), b["ts"] / 1e3, e["ts"] / 1e3


def main(path, out, start=None, end=None):
    with open(path) as f:
        all_spans = sorted(spans(json.load(f)), key=lambda s: s[3])
    if start is None:
        passes = [s[3] for s in all_spans if s[1] == "compute" and s[2] == "0"]
        start = passes[-2] - 2
        end = start + 100
    shown = [s for s in all_spans if s[4] > float(start) and s[3] < float(end)]
    reads = sorted({s[0] for s in shown if s[1] == "read"}, key=lambda lane: int(lane.split("-")[1]))
    lanes = reads + ["upload", "compute"]
    figure, axes = plt.subplots(figsize=(11, 0.8 + 0.18 * len(lanes)))
    for lane, name, unit, begin, finish in shown:
        y = len(lanes) - lanes.index(lane)
        shade = 0.55 if int(unit or 0) % 2 else 1.0
        axes.barh(y, finish - begin, left=begin - float(start), height=0.8, color=COLOURS[name], alpha=shade)
    axes.set_yticks([len(lanes) - i for i in range(len(lanes))], lanes, fontsize=7)
    axes.set_xlim(0, float(end) - float(start))
    axes.set_xlabel("milliseconds; units alternate between light and dark")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


main(*sys.argv[1:])
