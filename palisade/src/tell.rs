//! A notice in words: for the log, `events` and `why`.

use palisade_core::event::Notice;
use serde_json::Value;

/// A notice on one line.
pub(crate) fn describe(notice: &Notice) -> String {
    let mut value = serde_json::to_value(notice).unwrap_or_default();
    let fields = value.as_object_mut();
    let mut text = notice.at.to_string();
    if let Some(prefix) = notice.prefix {
        text.push_str(&format!(" {prefix}"));
    }
    let Some(fields) = fields else { return text };
    if let Some(Value::String(event)) = fields.remove("event") {
        text.push_str(&format!(" {event}"));
    }
    for (name, value) in fields.iter().filter(|(name, _)| !["at", "prefix"].contains(&name.as_str())) {
        field(&mut text, name, value);
    }
    text
}

/// ` name=value`, with what is nested laid flat, and nothing for what is empty.
fn field(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::String(word) if word.is_empty() => {}
        Value::String(word) => text.push_str(&format!(" {name}={word:?}")),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| field(text, name, value)),
        other => text.push_str(&format!(" {name}={other}")),
    }
}
