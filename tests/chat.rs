//! Prompts equal transformers' byte for byte, and what is wrong with a template is said.

use std::fs;
use std::path::PathBuf;

use leveret::{ChatTemplate, Conversation, Error, Message, Result};
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Map, json};
use tempfile::TempDir;

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    conversation: Conversation,
    expected: Option<String>,
    error: Option<String>,
}

#[rstest]
fn prompts_equal_transformers(#[files("tests/fixtures/chat/*/messages.json")] cases: PathBuf) {
    let template = ChatTemplate::from_dir(cases.parent().unwrap()).unwrap().unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(cases).unwrap()).unwrap();
    assert!(!cases.is_empty());
    for Case { conversation, expected, error } in cases {
        match (template.render(&conversation), expected, error) {
            (Ok(prompt), Some(expected), None) => assert_eq!(prompt, expected),
            (Err(found), None, Some(error)) => assert!(found.to_string().contains(&error), "{found}"),
            (found, expected, error) => panic!("found {found:?}, expected {expected:?}{error:?}"),
        }
    }
}

/// Rendered by transformers 5.23, like the fixtures.
#[rstest]
#[case(
    "{{ none is iterable }} {{ 'a' is sequence }} {{ {} is sequence }} {{ messages[1:] is sequence }}",
    "False True True True"
)]
#[case("{{ 1e16 }} {{ [1e-7, 1e22, 100.0] }} {{ 1e20|string }}", "1e+16 [1e-07, 1e+22, 100.0] 1e+20")]
#[case(
    "{{ ['it\\'s', \"a\u{a0}b\u{200d}\u{301}é🐇\", nothing, (1,), {'k': none}] }}",
    "[\"it's\", 'a\\xa0b\\u200d\u{301}é🐇', Undefined, (1,), {'k': None}]"
)]
#[case(r"{{ 'tool_name it\'s 3d'.title() }}", "Tool_Name It'S 3D")]
#[case(
    "{{ \"a\\r\\nb\u{2028}c\\n\\nd\".splitlines() }} {{ \"a\\nb\".splitlines(true) }}",
    r"['a', 'b', 'c', '', 'd'] ['a\n', 'b']"
)]
#[case("{{ 'a.b.c'.rsplit('.', 1) }} {{ 'a.b.c'.rsplit('.') }}", "['a.b', 'c'] ['a', 'b', 'c']")]
#[case("{{ 'x.py'.removesuffix('.py') }} {{ '东京é'.find('é') }}", "x 2")]
#[case("a\n{% raw %}\n{{ x }}{% endraw %}\n", "a\n\n{{ x }}")]
#[case("a\r\n{% if true %}\r\n b\r\n{% endif %}\rc\r\n\r\n", "a\n b\nc\n")]
#[case("{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}", "1False")]
#[case("a\n  {%- generation -%}\n  b\n  {% endgeneration %}\nc", "ab\nc")]
#[case(
    "{{ 'abc'[9223372036854775807:] }}{{ 'abc'[-99:2] }}{{ 'abc'[::-1] }}{{ [1][:-9223372036854775808] }}",
    "abcba[]"
)]
#[case(
    "{{ {'b': [1, {}], 'a': 'é<'}|tojson(indent=1, sort_keys=true) }}{{ [1, 'é']|tojson(true, none, (',', ':')) }}",
    "{\n \"a\": \"é<\",\n \"b\": [\n  1,\n  {}\n ]\n}[1,\"\\u00e9\"]"
)]
#[case("{{ {'items': 1}.items()|list }}{{ {'a': none}.get('a', 3) }}{{ {}.get('a', 3) }}", "[('items', 1)]None3")]
fn the_dialect_is_that_of_transformers(#[case] template: &str, #[case] expected: &str) {
    let (_dir, template) = checkpoint(&[("chat_template.jinja", template)]);
    assert_eq!(template.unwrap().unwrap().render(&two_turns()).unwrap(), expected);
}

#[test]
fn variables_go_before_special_tokens() {
    let config = r#"{"chat_template": "{{ bos_token }}{{ image_token }}{{ add_bos_token }}{{ eos_token is defined }}",
        "bos_token": "<old>", "image_token": "<image>", "add_bos_token": true, "eos_token": "<eos>"}"#;
    let map = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null}"#;
    let (_dir, template) = checkpoint(&[("tokenizer_config.json", config), ("special_tokens_map.json", map)]);
    let template = template.unwrap().unwrap();
    assert_eq!(template.bos_token(), Some("<s>"));
    assert_eq!(template.render(&two_turns()).unwrap(), "<s><image>False");
    let variables = Map::from_iter([("bos_token".to_owned(), json!("<mine>"))]);
    assert_eq!(template.render(&Conversation { variables, ..two_turns() }).unwrap(), "<mine><image>False");

    let config = config.replace("\"chat_template\"", "\"added_tokens_decoder\": {}, \"chat_template\"");
    let (_dir, template) = checkpoint(&[("tokenizer_config.json", &config), ("special_tokens_map.json", map)]);
    assert_eq!(template.unwrap().unwrap().bos_token(), Some("<old>"));
}

#[test]
fn a_template_is_chosen_by_name() {
    let config = r#"{"chat_template": [{"name": "rag", "template": "R"}, {"name": "tool_use", "template": "T"}]}"#;
    let (_dir, template) = checkpoint(&[("tokenizer_config.json", config)]);
    let template = template.unwrap().unwrap();
    let tools = Conversation { tools: Some(json!([])), ..two_turns() };
    assert_eq!(template.render(&tools).unwrap(), "T");
    let named = |name: &str| Conversation { template: Some(name.into()), ..two_turns() };
    assert_eq!(template.render(&named("rag")).unwrap(), "R");
    for (conversation, name) in [(two_turns(), "default"), (named("rga"), "rga")] {
        let error = template.render(&conversation).unwrap_err().to_string();
        assert!(error.ends_with(&format!("there is no template `{name}`, choose from `rag`, `tool_use`")), "{error}");
    }
}

#[rstest]
#[case("{{ 'a' }}\n{% if %}", "`default`, line 2: unexpected")]
#[case("\n{% for m in messages %}\n", "`default`, line 2: unexpected end of input")]
#[case("{% trans %}", "`default`, line 1: unknown statement trans")]
#[case("x\n{% generation %}{% endif %}", "`default`, line 2: ")]
fn a_broken_template_is_refused_at_once(#[case] text: &str, #[case] reason: &str) {
    let config = json!({"chat_template": text}).to_string();
    for (file, text) in [("chat_template.jinja", text), ("tokenizer_config.json", &config)] {
        let (dir, template) = checkpoint(&[(file, text)]);
        let error = template.unwrap_err();
        assert!(matches!(&error, Error::Template { path, .. } if *path == dir.path().join(file)));
        assert!(error.to_string().contains(&format!("{file}: chat template: {reason}")), "{error}");
    }
}

#[rstest]
#[case("tokenizer_config.json", b"{\"chat_template\":", "EOF while parsing")]
#[case("tokenizer_config.json", b"[]", "invalid type: sequence, expected a map")]
#[case("tokenizer_config.json", b"\xff", "expected value at line 1")]
#[case("tokenizer_config.json", br#"{"chat_template": 5}"#, "`chat_template` is neither a text nor a list")]
#[case("tokenizer_config.json", br#"{"chat_template": [{"name": "a"}]}"#, "`chat_template` is neither")]
#[case("tokenizer_config.json", br#"{"chat_template": "", "bos_token": 5}"#, "`bos_token` is neither a text nor")]
#[case("chat_template.jinja", b"a\xff", "invalid utf-8 sequence")]
#[case("chat_template.jinja", &[b'x'; 262145], "has 262145 bytes, expected at most 262144")]
fn a_file_that_cannot_be_read_is_named(#[case] file: &str, #[case] bytes: &[u8], #[case] reason: &str) {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(file), bytes).unwrap();
    let error = ChatTemplate::from_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains(file) && error.contains(reason), "{error}");
}

#[rstest]
#[case("{{ raise_exception('no «way»') }}", "no «way»")]
#[case("\n{{ nothing.role }}", "`default`, line 2: `nothing` is undefined")]
#[case("{{ messages|nofilter }}", "filter nofilter is unknown")]
#[case("{{ 'a'.nomethod() }}", "string has no method named nomethod")]
#[case("{{ strftime_now('%!') }}", "line 1: ")]
#[case("{{ nothing|tojson }}", "tojson: a value of type undefined cannot be written as JSON")]
#[case("{{ [1, 2][::-9223372036854775808] }}", "")]
#[case("{{ 'a' * 10000000000 }}", "engine ran out of fuel")]
#[case("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "recursion limit exceeded")]
fn a_failure_is_an_error(#[case] text: &str, #[case] reason: &str) {
    let (_dir, template) = checkpoint(&[("chat_template.jinja", text)]);
    // The step of a slice overflows where arithmetic is checked, and is right where it is not.
    match template.unwrap().unwrap().render(&two_turns()) {
        Ok(prompt) => assert_eq!((prompt.as_str(), reason), ("[2]", "")),
        Err(error) => assert!(error.to_string().contains(reason), "{error}"),
    }
}

#[rstest]
#[case("{{ ns.a }}")]
#[case("{{ ns.a|tojson }}")]
#[case("{{ ns.a|string }}")]
#[case("{{ ns.a ~ '' }}")]
#[case("{{ ns.a == [ns.a] }}")]
#[case("{{ ns.a + 1 }}")]
fn deep_nesting_does_no_harm(#[case] then: &str) {
    let text = "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}";
    let (_dir, template) = checkpoint(&[("chat_template.jinja", &format!("{text}{then}"))]);
    let _ = template.unwrap().unwrap().render(&two_turns());
}

#[rstest]
#[case("(")]
#[case("[")]
#[case("-")]
#[case("not ")]
#[case("1 if 1 else ")]
fn a_deeply_nested_template_does_no_harm(#[case] part: &str) {
    let text = format!("{{{{ {}1 }}}}", part.repeat(200_000 / part.len()));
    let (_dir, template) = checkpoint(&[("chat_template.jinja", &text)]);
    let _ = template.map(|template| template.unwrap().render(&two_turns()));
}

#[test]
fn a_conversation_needs_messages_and_lists() {
    let (_dir, template) = checkpoint(&[("chat_template.jinja", "{{ tools }}{{ documents }}")]);
    let template = template.unwrap().unwrap();
    let error = template.render(&Conversation::default()).unwrap_err().to_string();
    assert!(error.ends_with("the conversation has no message"), "{error}");
    for wrong in [json!("f"), json!({}), json!([1])] {
        let error =
            template.render(&Conversation { tools: Some(wrong.clone()), ..two_turns() }).unwrap_err().to_string();
        assert!(error.ends_with("`tools` is not a list of objects"), "{error}");
        let error = template.render(&Conversation { documents: Some(wrong), ..two_turns() }).unwrap_err().to_string();
        assert!(error.ends_with("`documents` is not a list of objects"), "{error}");
    }
    let empty = Conversation { tools: Some(json!(null)), documents: Some(json!([])), ..two_turns() };
    assert_eq!(template.render(&empty).unwrap(), "None[]");
}

#[test]
fn the_date_is_known() {
    let (_dir, template) = checkpoint(&[("chat_template.jinja", "{{ strftime_now('%Y-%m-%d|%d %B %Y|%%') }}")]);
    let date = template.unwrap().unwrap().render(&two_turns()).unwrap();
    let parts: Vec<_> = date.split('|').collect();
    assert_eq!((parts[0].len(), parts[1].split(' ').count(), parts[2]), (10, 3, "%"), "{date}");
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor %}";
    let (_dir, template) = checkpoint(&[("chat_template.jinja", endless)]);
    let error = template.unwrap().unwrap().render(&two_turns()).unwrap_err().to_string();
    assert!(error.contains("fuel"), "{error}");
}

#[test]
fn a_directory_without_templates_has_none() {
    let (_dir, template) = checkpoint(&[("tokenizer_config.json", r#"{"bos_token": "<s>", "chat_template": null}"#)]);
    assert!(template.unwrap().is_none());
    let (_dir, template) = checkpoint(&[]);
    assert!(template.unwrap().is_none());
}

#[test]
fn messages_are_plain_json() {
    let message: Message = serde_json::from_value(json!({"role": "tool", "content": null, "z": 1, "a": 2})).unwrap();
    assert_eq!(serde_json::to_string(&message).unwrap(), r#"{"role":"tool","content":null,"z":1,"a":2}"#);
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(Message::system("Be brief.")) else { panic!() };
    assert_eq!(Message::from(fields), Message::system("Be brief."));
}

#[test]
fn templates_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<ChatTemplate>();
}

fn checkpoint(files: &[(&str, &str)]) -> (TempDir, Result<Option<ChatTemplate>>) {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let template = ChatTemplate::from_dir(dir.path());
    (dir, template)
}

fn two_turns() -> Conversation {
    Conversation { messages: vec![Message::user("Hi."), Message::assistant("Hello.")], ..Default::default() }
}
