//! The fields that an application's users have beside the system's.

use std::fmt::Display;

use serde::{
    Serialize,
    de::{DeserializeOwned, Deserializer, Visitor, value::Error as Refused},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};
use walkabout_schema::Fields;

use crate::{
    FieldError,
    input::{
        self, Input,
        schema::{self, Definitions, Member},
    },
    walker::{Context, Failure, FieldKind, Part, Spec, fail},
};

/// Bytes of JSON that the own fields of a user may take: they are part of each login's token.
pub(crate) const OWN_BYTES_MAX: usize = 2048;

/// What a user has of the system, or a login shows as that.
const RESERVED: [&str; 23] = [
    "_id",
    "id",
    "email",
    "password",
    "old_password",
    "new_password",
    "root",
    "root_id",
    "is_activated",
    "is_verified",
    "is_admin",
    "created_at",
    "version",
    "sessions",
    "tickets",
    "webhook_keys",
    "fields",
    "expiration",
    "state",
    "sso",
    "exp",
    "code",
    "token",
];

/// The user whose run it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile<T> {
    /// The address.
    pub email: String,
    /// Whether the address is verified, or need not be.
    pub is_activated: bool,
    /// The fields that the application's users have.
    pub fields: T,
}

/// The type of an application's own fields, erased.
#[derive(Clone)]
pub(crate) struct OwnFields {
    spec: Spec,
    read: fn(Input<'_>) -> Result<Fields, Vec<FieldError>>,
    /// What they take, for documents.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) members: fn(&mut Definitions) -> Vec<Member>,
}

impl Default for OwnFields {
    /// None.
    fn default() -> Self {
        Self { spec: Spec::new(), read: |_| Ok(Fields::default()), members: |_| Vec::new() }
    }
}

impl OwnFields {
    /// Those of a type.
    ///
    /// # Errors
    /// Why users cannot have them.
    pub(crate) fn of<T: Serialize + DeserializeOwned>() -> Result<Self, String> {
        let name = std::any::type_name::<T>();
        let names = names_of::<T>().ok_or_else(|| {
            format!("the user type {name} should be a struct with named fields, and none of them with #[serde(flatten)]")
        })?;
        let taken: Vec<_> = names.iter().filter(|name| RESERVED.contains(name)).copied().collect();
        if !taken.is_empty() {
            let taken = taken.join(", ");
            return Err(format!(
                "the user type {name} has fields that every user has already: {taken}; rename them"
            ));
        }
        // Which of them are required is what serde says when they are missing.
        let spec = names.iter().fold(Spec::new(), |spec, name| spec.field(name, FieldKind::Optional));
        Ok(Self { spec, read: encode::<T>, members: schema::members::<T> })
    }

    /// The fields of a registration, of which all that is not theirs is left alone.
    ///
    /// # Errors
    /// All that does not fit.
    pub(crate) fn read(&self, given: Map<String, Value>) -> Result<Fields, Vec<FieldError>> {
        (self.read)(Input::of(&self.spec, given))
    }
}

fn encode<T: Serialize + DeserializeOwned>(input: Input<'_>) -> Result<Fields, Vec<FieldError>> {
    let read = input::read::<T>(input)?;
    let fields = Fields::encode(&read).map_err(|error| {
        tracing::debug!(%error, "the fields of a user cannot be stored");
        unfit(
            "value_error",
            "Value error, the fields cannot be stored: no whole number may be beyond 64 bits with the sign, and no name may hold a NUL character",
        )
    })?;
    match serde_json::to_string(&shown(&fields)) {
        Ok(text) if text.len() <= OWN_BYTES_MAX => Ok(fields),
        _ => Err(unfit(
            "too_long",
            format!("The fields of a user should have at most {OWN_BYTES_MAX} bytes as JSON"),
        )),
    }
}

fn unfit(kind: &str, msg: impl Into<String>) -> Vec<FieldError> {
    let (loc, input, ctx) = (Vec::new(), Value::Null, Value::Null);
    vec![FieldError { kind: kind.to_owned(), part: Part::Body, loc, msg: msg.into(), input, ctx }]
}

/// The fields as a login shows them. What an earlier program stored under a name of the system's is not.
pub(crate) fn shown(fields: &Fields) -> Map<String, Value> {
    let mut shown: Map<String, Value> = fields.decode().unwrap_or_default();
    shown.retain(|name, _| !RESERVED.contains(&name.as_str()));
    shown
}

impl Context {
    /// The user whose run this is, as stored now, with the fields that the application gave to `Walkabout::user`; any struct of some of
    /// them will do. None for a caller without a login, and for administrators of the system, of whom several act as one root.
    ///
    /// # Errors
    /// When the stored fields do not fit the type, or the store refuses.
    pub async fn user<T: DeserializeOwned>(&mut self) -> Result<Option<Profile<T>>, Failure> {
        let root = self.attempt.graph.caller();
        if root == walkabout_schema::SYSTEM_ROOT {
            return Ok(None);
        }
        let users = self.attempt.engine.store.users_of(root).await.map_err(Failure::of_store)?;
        let Some(user) = users.into_iter().next() else { return Ok(None) };
        let fields = user.fields.decode().map_err(|error| {
            tracing::warn!(%error, "the fields of a user do not fit");
            fail(format!("the fields of the user do not fit {}", std::any::type_name::<T>()))
        })?;
        Ok(Some(Profile { email: user.email, is_activated: user.is_activated, fields }))
    }
}

/// The names under which a struct takes its fields; none for what is no such struct.
fn names_of<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut names = None;
    drop(T::deserialize(Names(&mut names)));
    names
}

/// Asks a type for the names of its fields, and gives it nothing.
struct Names<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(refused("only names are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Refused> {
        *self.0 = Some(fields);
        Err(refused("only names are asked for"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn refused(why: impl Display) -> Refused {
    serde::de::Error::custom(why)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Account {
        name: String,
        #[serde(default)]
        age: u8,
        #[serde(rename = "phone")]
        number: Option<String>,
    }

    fn read(given: Value) -> Result<Value, Vec<String>> {
        let Value::Object(given) = given else { panic!("no object") };
        let read = OwnFields::of::<Account>().unwrap().read(given);
        read.map(|fields| shown(&fields).into()).map_err(|errors| {
            errors.into_iter().map(|error| format!("{} {}", error.kind, Value::from(error.loc))).collect()
        })
    }

    #[test]
    fn fields_are_read_as_those_of_a_walker() {
        assert_eq!(
            read(json!({ "name": "Ann", "age": "30", "email": "a@b.com", "more": 1 })),
            Ok(json!({ "name": "Ann", "age": 30, "phone": null }))
        );
        assert_eq!(read(json!({ "name": "Ann", "phone": "1" })).unwrap()["phone"], "1");
        let wrong = read(json!({ "age": 300, "phone": 5 })).unwrap_err();
        assert_eq!(wrong, [r#"missing ["name"]"#, r#"less_than_equal ["age"]"#, r#"string_type ["phone"]"#]);
        let long = read(json!({ "name": "x".repeat(OWN_BYTES_MAX) })).unwrap_err();
        assert_eq!(long, ["too_long []"]);
        let none = OwnFields::default().read(Map::from_iter([("name".to_owned(), json!(1))])).unwrap();
        assert_eq!(shown(&none), Map::new());
    }

    #[test]
    fn what_users_cannot_have() {
        #[derive(Serialize, Deserialize)]
        struct Clash {
            name: String,
            #[serde(rename = "root_id")]
            id_of_root: String,
            #[serde(alias = "email")]
            address: String,
        }
        #[derive(Serialize, Deserialize)]
        struct Flat {
            #[serde(flatten)]
            rest: Map<String, Value>,
        }
        let why = |read: Result<OwnFields, String>| read.err().unwrap();
        let clash = why(OwnFields::of::<Clash>());
        assert!(clash.contains("root_id, email; rename") && clash.contains("Clash"), "{clash}");
        for other in
            [why(OwnFields::of::<Flat>()), why(OwnFields::of::<String>()), why(OwnFields::of::<Vec<u8>>())]
        {
            assert!(other.contains("a struct with named fields"), "{other}");
        }
    }
}
