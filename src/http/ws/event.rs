//! What a client may send, parsed.

use serde_json::{Map, Value, json};
use uuid::Uuid;
use walkabout_schema::NodeId;

use crate::http::{json, problem::Detail};

/// One event of a client.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// Asks for the connection message.
    Connection,
    /// Runs a walker.
    Walker {
        /// Its name.
        walker: String,
        /// Where it enters; none for the caller's root.
        node: Option<NodeId>,
        /// Whether what a plain walker reports is sent back.
        response: bool,
        /// Its fields.
        context: Map<String, Value>,
    },
    /// Sends `data` to every connection of some roots.
    User { roots: Vec<Uuid>, data: Value },
    /// Sends `data` to every connection of some channels.
    Channel { channels: Vec<String>, data: Value },
    /// Sends `data` to some connections.
    Client { clients: Vec<String>, data: Value },
    /// Becomes another caller; the public without a token.
    ChangeUser { token: Option<String> },
    /// Follows a run, from the event after that number.
    Subscribe { walker_id: String, after: u64 },
    /// Follows it no longer.
    Unsubscribe { walker_id: String },
}

const TYPES: &str =
    "'connection', 'walker', 'user', 'channel', 'client', 'change_user', 'subscribe', 'unsubscribe'";

/// Parses a text frame. Members that an event does not have are ignored.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse(text: &str, depth_max: usize) -> Result<Event, Vec<Detail>> {
    let value = json::parse(text.as_bytes(), depth_max, None).map_err(|detail| vec![*detail])?;
    let Value::Object(map) = value else {
        let detail = Detail::new("dict_type", Vec::new(), "Input should be a valid dictionary");
        return Err(vec![detail.input(value)]);
    };
    let mut members = Members { map, wrong: Vec::new() };
    let kind = members.text("type");
    let event = match kind.as_deref() {
        Some("connection") => Some(Event::Connection),
        Some("walker") => walker(&mut members),
        Some("user") => {
            let roots = members.texts("root_ids").unwrap_or_default();
            let roots = members.roots(roots);
            members.data().map(|data| Event::User { roots, data })
        }
        Some("channel") => members
            .texts("channel_ids")
            .zip(members.data())
            .map(|(channels, data)| Event::Channel { channels, data }),
        Some("client") => members
            .texts("client_ids")
            .zip(members.data())
            .map(|(clients, data)| Event::Client { clients, data }),
        Some("change_user") => Some(Event::ChangeUser { token: members.text_or_null("token") }),
        Some("subscribe") => {
            let after = members.number("after");
            members.text("walker_id").map(|walker_id| Event::Subscribe { walker_id, after })
        }
        Some("unsubscribe") => members.text("walker_id").map(|walker_id| Event::Unsubscribe { walker_id }),
        Some(other) => {
            let detail =
                Detail::new("union_tag_invalid", vec!["type".into()], format!("Expected one of {TYPES}"));
            members.wrong.push(detail.input(clip(other).into()));
            None
        }
        None => None,
    };
    match event {
        Some(event) if members.wrong.is_empty() => Ok(event),
        _ => Err(members.wrong),
    }
}

fn walker(members: &mut Members) -> Option<Event> {
    let node = members.text_or_null("node").and_then(|text| members.node("node", &text));
    let response = members.flag("response");
    let context = members.context();
    members.text("walker").map(|walker| Event::Walker { walker, node, response, context })
}

/// At most so much of what was given is shown back.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Takes members one by one, and notes what is wrong with them.
struct Members {
    map: Map<String, Value>,
    wrong: Vec<Detail>,
}

impl Members {
    fn refuse(&mut self, name: &str, kind: &str, msg: &str, input: Value) {
        self.wrong.push(Detail::new(kind, vec![name.into()], msg).input(input));
    }

    fn missing(&mut self, name: &str) {
        self.wrong.push(Detail::missing(vec![name.into()], json!({})));
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.map.remove(name) {
            Some(Value::String(text)) => return Some(text),
            None => self.missing(name),
            Some(other) => self.refuse(name, "string_type", "Input should be a valid string", other),
        }
        None
    }

    fn text_or_null(&mut self, name: &str) -> Option<String> {
        match self.map.remove(name) {
            Some(Value::String(text)) => return Some(text),
            None | Some(Value::Null) => {}
            Some(other) => self.refuse(name, "string_type", "Input should be a valid string", other),
        }
        None
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.map.remove(name) {
            Some(Value::Bool(flag)) => return flag,
            None => {}
            Some(other) => self.refuse(name, "bool_type", "Input should be a valid boolean", other),
        }
        false
    }

    fn number(&mut self, name: &str) -> u64 {
        match self.map.remove(name) {
            None => 0,
            Some(value) => value.as_u64().unwrap_or_else(|| {
                self.refuse(name, "int_type", "Input should be a whole number from 0", value);
                0
            }),
        }
    }

    fn context(&mut self) -> Map<String, Value> {
        match self.map.remove("context") {
            Some(Value::Object(context)) => return context,
            None => {}
            Some(other) => self.refuse("context", "dict_type", "Input should be a valid dictionary", other),
        }
        Map::new()
    }

    fn data(&mut self) -> Option<Value> {
        match self.map.remove("data") {
            Some(data @ Value::Object(_)) => return Some(data),
            None => self.missing("data"),
            Some(other) => self.refuse("data", "dict_type", "Input should be a valid dictionary", other),
        }
        None
    }

    /// A list of one text or more.
    fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let list = match self.map.remove(name) {
            Some(Value::Array(list)) => list,
            None => {
                self.missing(name);
                return None;
            }
            Some(other) => {
                self.refuse(name, "list_type", "Input should be a valid list", other);
                return None;
            }
        };
        if list.is_empty() {
            self.refuse(name, "too_short", "List should have at least 1 item", json!([]));
            return None;
        }
        let mut texts = Vec::with_capacity(list.len());
        for (at, one) in list.into_iter().enumerate() {
            let Value::String(text) = one else {
                let loc = vec![name.into(), at.into()];
                self.wrong.push(Detail::new("string_type", loc, "Input should be a valid string").input(one));
                return None;
            };
            texts.push(text);
        }
        Some(texts)
    }

    fn node(&mut self, name: &str, text: &str) -> Option<NodeId> {
        match text.parse() {
            Ok(node) => Some(node),
            Err(_) => {
                self.refuse(name, "value_error", "Input should be n:<Name>:<uuid>", clip(text).into());
                None
            }
        }
    }

    fn roots(&mut self, texts: Vec<String>) -> Vec<Uuid> {
        let mut roots = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse::<NodeId>() {
                Ok(node) if node.is_root() => roots.push(node.uuid()),
                _ => {
                    // One is enough: a frame may hold thousands.
                    self.refuse("root_ids", "value_error", "Input should be n::<uuid>", clip(&text).into());
                    break;
                }
            }
        }
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str, wanted: &Event) {
        assert_eq!(parse(text, 16).as_ref(), Ok(wanted), "{text}");
    }

    fn bad(text: &str, wanted: &[&str]) {
        let details = parse(text, 16).unwrap_err();
        let kinds: Vec<_> = details.iter().map(|detail| detail.kind.as_str()).collect();
        assert_eq!(kinds, wanted, "{text}");
    }

    #[test]
    fn events_are_read() {
        good(r#"{"type":"connection","more":1}"#, &Event::Connection);
        let walker =
            |node, response| Event::Walker { walker: "w".into(), node, response, context: Map::new() };
        good(r#"{"type":"walker","walker":"w"}"#, &walker(None, false));
        let root = NodeId::root(Uuid::from_u128(1));
        good(
            &format!(r#"{{"type":"walker","walker":"w","node":"{root}","response":true}}"#),
            &walker(Some(root), true),
        );
        good(r#"{"type":"change_user"}"#, &Event::ChangeUser { token: None });
        good(
            r#"{"type":"subscribe","walker_id":"x"}"#,
            &Event::Subscribe { walker_id: "x".into(), after: 0 },
        );
        let clients = Event::Client { clients: vec!["a".into()], data: json!({}) };
        good(r#"{"type":"client","client_ids":["a"],"data":{}}"#, &clients);
    }

    #[test]
    fn others_are_refused() {
        bad("{", &["json_invalid"]);
        bad("[]", &["dict_type"]);
        bad("{}", &["missing"]);
        bad(r#"{"type":1}"#, &["string_type"]);
        bad(r#"{"type":"x"}"#, &["union_tag_invalid"]);
        bad(r#"{"type":"walker"}"#, &["missing"]);
        bad(
            r#"{"type":"walker","walker":"w","node":"x","response":1,"context":[]}"#,
            &["value_error", "bool_type", "dict_type"],
        );
        bad(
            r#"{"type":"user","root_ids":["n:City:00000000000000000000000000000001"],"data":{}}"#,
            &["value_error"],
        );
        bad(r#"{"type":"channel","channel_ids":[],"data":{}}"#, &["too_short"]);
        bad(r#"{"type":"client","client_ids":[1],"data":{}}"#, &["string_type"]);
        bad(r#"{"type":"client","client_ids":["a"],"data":1}"#, &["dict_type"]);
        bad(r#"{"type":"subscribe","walker_id":"x","after":-1}"#, &["int_type"]);
    }
}
