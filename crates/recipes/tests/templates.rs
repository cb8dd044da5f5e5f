//! Chat templates against the reference: `golden/templates.py` writes them and what transformers makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_recipes::chat::{ChatTemplate, Message, Next};
use serde_json::Value;

const GOLDEN: &str = include_str!("golden/templates.json");

#[test]
fn templates_render_as_the_reference_renders_them() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 80);
    for case in cases {
        let source = golden["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
        let template = ChatTemplate::new(source).unwrap().with("bos_token", "<s>").with("eos_token", "</s>");
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let next = if case["prompt"] == true { Next::Answer } else { Next::Nothing };
        let rendered = template.render(&messages, next);
        match case["text"].as_str() {
            Some(expected) => {
                assert_eq!(rendered.unwrap(), expected, "{} {messages:?}", case["template"]);
                // Stand-ins have no capitals: only a template that changes letters beyond ASCII can tell.
                if case["template"] == "texts" && !messages.iter().all(|m| m.content.is_ascii()) {
                    continue;
                }
                let special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
                let guarded = template.guard(special, &messages, next).unwrap();
                assert_eq!(guarded.text, expected, "{} guarded", case["template"]);
            }
            None => {
                let (error, expected) = (rendered.unwrap_err().to_string(), case["error"].as_str().unwrap());
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}
