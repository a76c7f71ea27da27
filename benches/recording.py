"""Records a command in a terminal of 88 by 12 characters as an SVG: benches/recording.py OUT.svg COMMAND...

Seconds are stretched so that the recording takes six; the factor is printed. A reader without animations sees the last
screen. Needs Python alone.
"""

import codecs
import fcntl
import html
import os
import pty
import re
import struct
import sys
import termios
import time

COLUMNS, ROWS, LASTS, FRAMES = 88, 12, 6.0, 30
STYLE = """text{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328;white-space:pre}.dim{fill:#6e7781}
rect{fill:#f6f8fa}@media(prefers-color-scheme:dark){text{fill:#d6dbe0}.dim{fill:#8b949e}rect{fill:#0d1117}}"""
TOKEN = re.compile(r"\x1b7|\x1b8|\x1b\[[?0-9;]*[A-Za-z]|[\s\S]")


def record(command):
    """(seconds, text) as they come out of the command, until it ends."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        time.sleep(0.2)
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    started, decoder = time.monotonic(), codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        yield time.monotonic() - started, decoder.decode(data)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit("the command failed")


class Screen:
    """What the escapes that Leveret writes make of a screen that never scrolls."""

    def __init__(self):
        self.cells, self.row, self.column, self.dim, self.kept = {}, 0, 0, False, (0, 0, False)

    def write(self, text):
        for token in TOKEN.findall(text):
            if token == "\x1b7":
                self.kept = (self.row, self.column, self.dim)
            elif token == "\x1b8":
                self.row, self.column, self.dim = self.kept
            elif token == "\x1b[K":
                self.cells = {at: cell for at, cell in self.cells.items() if at[0] != self.row or at[1] < self.column}
            elif token.endswith("m") and token.startswith("\x1b"):
                self.dim = token == "\x1b[2m"
            elif token == "\n":
                self.row += 1
            elif token == "\r":
                self.column = 0
            elif not token.startswith("\x1b"):
                if self.column == COLUMNS:
                    self.row, self.column = self.row + 1, 0
                self.cells[self.row, self.column] = (token, self.dim)
                self.column += 1

    def lines(self):
        """(row, column, text, dim) of every run of equal cells."""
        runs = []
        for (row, column), (text, dim) in sorted(self.cells.items()):
            if runs and runs[-1][0] == row and runs[-1][3] == dim and runs[-1][1] + len(runs[-1][2]) == column:
                runs[-1][2] += text
            else:
                runs.append([row, column, text, dim])
        return runs


def frame(lines, attributes, timing):
    texts = ""
    for row, column, text, dim in lines:
        kind = ' class="dim"' if dim else ""
        texts += f'<text x="{16 + 8.43 * column:.1f}" y="{50 + 20 * row}"{kind}>{html.escape(text)}</text>\n'
    return f"<g {attributes}>{timing}\n{texts}</g>\n"


def main():
    out, command = sys.argv[1], sys.argv[2:]
    screen, screens = Screen(), []
    for at, text in record(command):
        # One screen for each token, though several may come at once.
        for part in re.findall(r"[\s\S]*?\x1b8|[\s\S]+$", text):
            screen.write(part)
            screens.append((at, screen.lines()))
    first, end = screens[0][0], screens[-1][0]
    factor = LASTS / (end - first)
    step = max(1, len(screens) // FRAMES)
    shown = screens[:-1:step] + screens[-1:]
    begins = [factor * (at - first) for at, _ in shown]
    rows = 1 + max(row for _, lines in shown for row, *_ in lines)
    width, height = 32 + int(8.43 * COLUMNS), 66 + 20 * rows
    quoted = ['"' + word + '"' if " " in word else word for word in command[1:]]
    prompt = " ".join([os.path.basename(command[0]), *quoted])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n',
        f'<style>{STYLE}</style>\n<rect width="{width}" height="{height}" rx="8"/>\n',
        f'<text x="16" y="28" class="dim">$ {html.escape(prompt)}</text>\n',
    ]
    for (_, lines), begin, until in zip(shown, begins, begins[1:]):
        if until - begin < 0.01:
            continue
        timing = f'<set attributeName="visibility" to="visible" begin="{begin:.2f}s" dur="{until - begin:.2f}s"/>'
        parts.append(frame(lines, 'visibility="hidden"', timing))
    hidden = f'<set attributeName="visibility" to="hidden" begin="0s" dur="{LASTS:.2f}s"/>'
    parts += [frame(shown[-1][1], 'visibility="visible"', hidden), "</svg>\n"]
    with open(out, "w", encoding="utf-8") as file:
        file.write("".join(parts))
    print(f"{len(shown)} of {len(screens)} screens, {factor:.0f} times as slow")


main()
