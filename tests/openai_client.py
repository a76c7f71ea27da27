"""Talks to `leveret serve` through OpenAI's own client: `python tests/openai_client.py target/debug/leveret`."""

import asyncio
import json
import subprocess
import sys

import openai

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "The mansion in Saville Row"}], "temperature": 0}


def main(binary):
    command = [binary, "serve", "--port", "0", "--api-key", "secret", "--dtype", "float32", "models/demo"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0)
        checks = [models, chat, stream, completion, schema, errors]
        for check in checks:
            check(client)
        asyncio.run(together(address))
        wrong_key(address)
        print(f"{len(checks) + 2} checks passed with openai {openai.__version__}")
    finally:
        server.terminate()
        server.wait()


def models(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "leveret"


def chat(client):
    reply = client.chat.completions.create(**CHAT, max_tokens=8, logprobs=True, top_logprobs=3, n=2)
    first, second = reply.choices
    assert first.message.content.startswith(", though not sumptuous"), first
    assert first.message.content == second.message.content and first.finish_reason == "length"
    assert len(first.logprobs.content) == 8 and len(first.logprobs.content[0].top_logprobs) == 3
    assert reply.usage.completion_tokens == 16


def stream(client):
    whole = client.chat.completions.create(**CHAT, max_tokens=12)
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**CHAT, max_tokens=12, stream=True, stream_options=options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    # The client goes away in the middle; the server goes on.
    with client.chat.completions.create(**CHAT, max_tokens=100, stream=True) as half:
        next(iter(half))


def completion(client):
    reply = client.completions.create(model="demo", prompt=["Phileas Fogg", "London"], max_tokens=5, stop="zzz", seed=1)
    assert [choice.index for choice in reply.choices] == [0, 1] and reply.object == "text_completion"
    reply = client.completions.create(model="demo", prompt=[[5, 6], [7]], max_tokens=2, logprobs=3, extra_body={"top_k": 5})
    assert reply.usage.prompt_tokens == 3 and len(reply.choices[1].logprobs.top_logprobs[0]) >= 3
    reply = client.completions.create(model="demo", prompt="Good day", max_tokens=9, logprobs=0, logit_bias={"0": 100})
    assert reply.choices[0].finish_reason == "stop" and reply.choices[0].logprobs.tokens == ["<|endoftext|>"]


def schema(client):
    schema = {"type": "object", "properties": {"rich": {"type": "boolean"}}, "required": ["rich"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}
    reply = client.chat.completions.create(**CHAT, max_tokens=100, response_format=wanted)
    assert isinstance(json.loads(reply.choices[0].message.content)["rich"], bool), reply


def errors(client):
    tool = {"type": "function", "function": {"name": "call", "parameters": {"type": "object", "properties": {}}}}
    for change, kind, param, code in [
        ({"model": "other"}, openai.NotFoundError, "model", "model_not_found"),
        ({"max_tokens": 100_000}, openai.BadRequestError, "messages", "context_length_exceeded"),
        ({"max_tokens": 100_000, "stream": True}, openai.BadRequestError, "messages", "context_length_exceeded"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", None),
        ({"temperature": "hot"}, openai.BadRequestError, "temperature", None),
        ({"tools": [tool]}, openai.BadRequestError, "tools", None),
    ]:
        try:
            client.chat.completions.create(**{**CHAT, **change})
        except kind as error:
            assert (error.param, error.code) == (param, code), error
        else:
            raise AssertionError(f"{change} was taken")


async def together(address):
    client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="secret")
    replies = await asyncio.gather(*(client.chat.completions.create(**CHAT, max_tokens=20) for _ in range(8)))
    assert len({reply.choices[0].message.content for reply in replies}) == 1


def wrong_key(address):
    try:
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key"
    else:
        raise AssertionError("a wrong key was taken")


main(*sys.argv[1:])
