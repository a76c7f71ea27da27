use rstest::rstest;
use serde_json::{Value, json};

use super::running::Server;

/// Every refusal names the field, what was found there and what was expected, in words of ours.
#[test]
fn what_is_wrong_is_said() {
    let server = Server::start(&[]);
    let message = |message: Value| json!({ "messages": [{ "role": "user", "content": "Good day" }, message] });
    let format = |format: Value| json!({ "response_format": format });
    let cases = [
        (json!({ "max_tokens": -1 }), "max_tokens", "max_tokens is -1, expected a whole number from 1 on"),
        (json!({ "max_tokens": 0 }), "max_tokens", "max_tokens is 0, expected a whole number from 1 on"),
        (json!({ "max_completion_tokens": "ten" }), "max_completion_tokens", "is \"ten\", expected a whole number"),
        (json!({ "temperature": "hot" }), "temperature", "temperature is \"hot\", expected a number"),
        (json!({ "temperature": -1 }), "temperature", "temperature"),
        (json!({ "top_p": 1.5 }), "top_p", "top_p"),
        (json!({ "seed": 1.5 }), "seed", "seed is 1.5, expected a whole number"),
        (json!({ "stream": "yes" }), "stream", "stream is \"yes\", expected true or false"),
        (
            json!({ "stream_options": { "include_usage": 1 } }),
            "stream_options.include_usage",
            "is 1, expected true or false",
        ),
        (json!({ "stop": [1] }), "stop", "stop is [1], expected a text or a list of texts"),
        (json!({ "n": 0 }), "n", "n is 0, expected from 1 to 128"),
        (json!({ "n": 100 }), "n", "n is 100, expected at most 8"),
        (json!({ "best_of": 3 }), "best_of", "best_of is 3, expected 1"),
        (json!({ "top_logprobs": 21, "logprobs": true }), "top_logprobs", "is 21, expected from 0 to 20"),
        (json!({ "logit_bias": { "5": 101 } }), "logit_bias", "expected an object of numbers from -100 to 100"),
        (json!({ "logit_bias": { "five": 1 } }), "logit_bias", "expected an object of numbers from -100 to 100"),
        (json!({ "logit_bias": { "99999": 1 } }), "logit_bias", "token 99999"),
        (json!({ "echo": true }), "echo", "echo is not supported; leave it out"),
        (json!({ "grammar": "root ::= \"a\"" }), "grammar", "grammar is not supported; leave it out"),
        (json!({ "tools": [{ "type": "function" }] }), "tools", "tools are not supported"),
        (json!({ "tool_choice": "required" }), "tool_choice", "tools are not supported"),
        (json!({ "messages": [] }), "messages", "messages is [], expected at least one"),
        (json!({ "messages": "text" }), "messages", "messages is \"text\", expected a list of objects"),
        (json!({ "messages": ["text"] }), "messages[0]", "messages[0] is \"text\", expected an object"),
        (
            message(json!({ "content": "hm" })),
            "messages[1].role",
            "messages[1].role is missing, expected system, developer",
        ),
        (
            message(json!({ "role": "robot", "content": "hm" })),
            "messages[1].role",
            "is \"robot\", expected system, developer",
        ),
        (message(json!({ "role": "user" })), "messages[1].content", "messages[1].content is missing, expected a text"),
        (message(json!({ "role": "user", "content": 5 })), "messages[1].content", "is 5, expected a text"),
        (
            message(json!({ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:," } }] })),
            "messages[1].content[0].type",
            "is \"image_url\", expected text",
        ),
        (format(json!("json")), "response_format", "is \"json\", expected an object"),
        (
            format(json!({ "type": "yaml" })),
            "response_format.type",
            "is \"yaml\", expected text, json_object or json_schema",
        ),
        (format(json!({ "type": "json_schema" })), "response_format.json_schema", "is missing, expected an object"),
        (
            format(json!({ "type": "json_schema", "json_schema": { "schema": { "type": "nonsense" } } })),
            "response_format",
            "nonsense",
        ),
    ];
    for (more, param, message) in cases {
        let (status, body) = server.chat(more);
        let error = &body["error"];
        assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")), "{body}");
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &Value::Null), "{body}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(message)), "{body}, not {message}");
    }
}

#[rstest]
#[case(json!({ "prompt": {} }), "prompt", "prompt is {}, expected a text, a list of texts, a list of token ids")]
#[case(json!({ "prompt": [] }), "prompt", "prompt is [], expected at least one")]
#[case(json!({ "prompt": ["a", 5] }), "prompt", "expected a text, a list of texts")]
#[case(json!({ "prompt": [[]] }), "prompt", "the prompt is empty")]
#[case(json!({ "prompt": [99999] }), "prompt", "token id 99999 is out of range")]
#[case(json!({ "prompt": null }), "prompt", "prompt is missing")]
#[case(json!({ "suffix": "the end" }), "suffix", "suffix is not supported; leave it out")]
#[case(json!({ "logprobs": -1 }), "logprobs", "logprobs is -1, expected a whole number")]
#[case(json!({ "logprobs": 21 }), "logprobs", "logprobs is 21, expected from 0 to 20")]
fn so_it_is_of_completions(#[case] more: Value, #[case] param: &str, #[case] message: &str) {
    let server = Server::start(&[]);
    let mut body = json!({ "prompt": "Good day", "max_tokens": 1 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, body) = server.post("/v1/completions", &body);
    assert_eq!((status, &body["error"]["param"]), (400, &json!(param)), "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains(message)), "{body}");
}

#[test]
fn another_model_and_too_long_a_text_have_codes() {
    let server = Server::start(&[]);
    let (status, body) = server.chat(json!({ "model": "other" }));
    let error = &body["error"];
    assert_eq!((status, &error["param"], &error["code"]), (404, &json!("model"), &json!("model_not_found")));
    // Also where it streams: what can be known before is a status, no event.
    for stream in [false, true] {
        let (status, body) = server.chat(json!({ "max_tokens": 100_000, "stream": stream }));
        let error = &body["error"];
        let code = json!("context_length_exceeded");
        assert_eq!((status, &error["param"], &error["code"]), (400, &json!("messages"), &code), "{body}");
    }
}

/// What other servers take, and what means nothing, is no reason to refuse.
#[test]
fn what_asks_for_nothing_is_taken() {
    let server = Server::start(&[]);
    let (status, body) = server.chat(json!({
        "user": "me", "metadata": { "a": "b" }, "store": false, "tools": [], "tool_choice": "auto", "best_of": 1,
        "echo": false, "suffix": "", "logit_bias": {}, "stop": [], "response_format": { "type": "text" }, "seed": null,
        "temperature": null, "top_logprobs": null, "stream_options": null, "parallel_tool_calls": true,
        "messages": [
            { "role": "developer", "content": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "brief." }] },
            { "role": "user", "content": "Good day", "name": "me" },
        ],
    }));
    assert_eq!(status, 200, "{body}");
    let tools = json!({ "tools": [{ "type": "function" }], "tool_choice": "none" });
    assert_eq!(server.chat(tools).0, 200);
}
