//! What an answer of a walker's own has to be.

use std::{any::type_name, fmt};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::input::schema::{self, COMPONENTS, Definitions};

/// A type as what an answer has to be: its JSON Schema, and whether a value is one.
#[derive(Clone, Copy)]
pub struct Model {
    name: &'static str,
    schema: fn(&mut Definitions) -> Value,
    check: fn(&Value) -> Result<(), String>,
}

impl Model {
    /// That of a type, as serde reads it.
    pub fn of<T: DeserializeOwned>() -> Self {
        Self {
            name: type_name::<T>(),
            schema: schema::of::<T>,
            check: |value| T::deserialize(value).map(drop).map_err(|error| error.to_string()),
        }
    }

    /// Whether a value is one.
    ///
    /// # Errors
    /// What does not fit, as a sentence.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        (self.check)(value)
    }

    /// Its JSON Schema (2020-12). Types with names are below `components/schemas` of the schema itself, where an API document has them.
    pub fn schema(&self) -> Value {
        let mut definitions = Definitions::default();
        let schema = self.define(&mut definitions);
        let mut members = match schema {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let schemas = definitions.into_schemas();
        if !schemas.is_empty() {
            let path = COMPONENTS.trim_start_matches("#/").trim_end_matches('/').rsplit('/');
            let below = path.fold(Value::Object(schemas), |inner, name| {
                Value::Object(Map::from_iter([(name.to_owned(), inner)]))
            });
            members.extend(below.as_object().cloned().unwrap_or_default());
        }
        Value::Object(members)
    }

    /// Its JSON Schema, with types that have names among these.
    pub(crate) fn define(&self, definitions: &mut Definitions) -> Value {
        (self.schema)(definitions)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.name).finish()
    }
}

/// Models of one type are one.
impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its form counts")]
    struct Reply {
        count: u8,
        note: Option<String>,
    }

    #[test]
    fn a_model_has_a_schema_and_checks() {
        let model = Model::of::<Vec<Reply>>();
        assert_eq!(model.check(&json!([{ "count": 1 }])), Ok(()));
        assert!(model.check(&json!([{ "count": 256 }])).unwrap_err().contains("256"));
        let schema = model.schema();
        assert_eq!(schema["items"], json!({ "$ref": "#/components/schemas/Reply" }));
        let reply = &schema["components"]["schemas"]["Reply"];
        assert_eq!(reply["required"], json!(["count"]));
        assert_eq!(reply["properties"]["count"]["maximum"], 255);
        assert_eq!(Model::of::<u8>(), Model::of::<u8>());
        assert_ne!(Model::of::<u8>(), Model::of::<u16>());
        assert_eq!(Model::of::<bool>().schema(), json!({ "type": "boolean" }));
    }
}
