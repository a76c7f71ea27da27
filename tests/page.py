"""Chats through the built-in page in headless Chromium: `python tests/page.py target/debug/leveret`."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import websocket

FLAGS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
  --disable-background-networking --disable-component-update --disable-sync --remote-debugging-port=0""".split()


class Page:
    """An empty page of the browser, spoken to by its DevTools protocol."""

    def __init__(self, address):
        self.socket = websocket.create_connection(address, suppress_origin=True, timeout=60)
        self.number, self.session = 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

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
        told = open(f"{profile}/stderr", "w+")
        browser = subprocess.Popen(["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=told)
        try:
            page = Page(devtools(browser, profile, told))
            keeps_others_out(page, url)
            page.call("Page.navigate", url=url)
            chats(page)
        finally:
            browser.kill()
            browser.wait()
            server.terminate()
            server.wait()
    print("the page chats, stops and forgets; pages of others are kept out")


def devtools(browser, profile, told):
    """Where the browser listens, which it writes to a file once it does."""
    for _ in range(1200):
        if os.path.exists(f"{profile}/DevToolsActivePort"):
            with open(f"{profile}/DevToolsActivePort") as file:
                if len(lines := file.read().split()) == 2:
                    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        if browser.poll() is not None:
            break
        time.sleep(0.05)
    told.seek(0)
    raise AssertionError(f"chromium does not start: {told.read()[-2000:]}")


def keeps_others_out(page, url):
    """What any page may send without asking first does not reach the model."""
    body = json.dumps({"messages": [{"role": "user", "content": "Phileas Fogg"}], "max_tokens": 1})
    for kind in ["text/plain", ""]:
        blob = f"new Blob([{json.dumps(body)}], {{ type: '{kind}' }})"
        page.run(f"fetch('{url}/v1/chat/completions', {{ method: 'POST', mode: 'no-cors', body: {blob} }}).then(() => 0)")
    with urllib.request.urlopen(f"{url}/metrics") as metrics:
        assert "leveret_requests_total 0\n" in metrics.read().decode()


def chats(page):
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
    page.say("Passepartout")
    page.wait("document.querySelector('.assistant')?.textContent.length > 5")
    page.run("$('reset').click()")
    page.wait("running === null")
    assert page.run("messages.length + document.getElementById('log').children.length") == 0, "nothing of it comes after"
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.run(wide), "the page fits its window"


main(*sys.argv[1:])
