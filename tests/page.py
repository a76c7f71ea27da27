"""Chats through the built-in page in headless Chromium: `python tests/page.py target/debug/leveret`."""

import json
import re
import subprocess
import sys
import tempfile
import time

import websocket


class Page:
    """A page of the browser, spoken to by its DevTools protocol."""

    def __init__(self, browser, url):
        line = next(line for line in browser.stderr if "DevTools listening on" in line)
        self.socket = websocket.create_connection(re.search(r"ws://\S+", line).group(), suppress_origin=True, timeout=60)
        self.number, self.session = 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition):
        for _ in range(600):
            if self.run(f"Boolean({condition})"):
                return
            time.sleep(0.05)
        raise AssertionError(f"{condition} does not come; the page says {self.run('document.body.innerText')!r}")

    def say(self, text):
        self.run(f"text.value = {json.dumps(text)}; $('send').click()")


def main(binary):
    command = [binary, "serve", "--port", "0", "--dtype", "float32", "models/demo"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    url = server.stdout.readline().split()[-1]
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(["chromium-headless-shell", *flags], stderr=subprocess.PIPE, text=True)
        try:
            check(Page(browser, url))
        finally:
            browser.kill()
            browser.wait()
            server.terminate()
            server.wait()
    print("the page chats, stops and forgets")


def check(page):
    page.wait("document.readyState === 'complete' && document.getElementById('model')?.textContent === 'demo'")
    page.say("The mansion in Saville Row")
    page.wait("document.querySelector('.note')?.textContent.includes(' tokens in ')")
    reply = page.run("document.querySelector('.assistant').textContent")
    assert len(reply) > 20, reply
    page.say("Phileas Fogg")
    page.wait("document.querySelectorAll('.assistant')[1]?.textContent.length > 5")
    page.run("$('stop').click()")
    page.wait("document.querySelectorAll('.note').length === 2 && running === null")
    assert page.run("messages.map(message => message.role).join(' ')") == "user assistant user assistant"
    page.run("$('reset').click()")
    assert page.run("messages.length + document.getElementById('log').children.length") == 0
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.run(wide), "the page fits its window"


main(*sys.argv[1:])
