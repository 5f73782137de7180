//! What a type asks serde for, place by place.
//!
//! A type is read along a path, and at its end nothing is given: what was asked for there is noted, and the reading stops. So no value
//! of the type is needed, and of a place behind one that reads its text itself something is learnt all the same. Or a value is given
//! at the end, and what comes of it is noted.

use std::{
    any::type_name,
    cell::RefCell,
    fmt::Display,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
        VariantAccess, Visitor,
        value::{MapDeserializer, StrDeserializer},
    },
};
use serde_json::Value;

/// One step into a value.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// What an option holds.
    Held,
    /// The item of a list or tuple behind these.
    Item(Vec<Value>),
    /// The key of a map.
    Key,
    /// What a map has under this key.
    Under(Value),
    /// A member of a struct, or of a variant.
    Member(&'static str),
    /// A variant of an enum.
    Variant(&'static str),
    /// What a variant holds, when that is one value.
    Content,
}

/// What is asked for at a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    /// Whatever is there.
    Any,
    Truth,
    /// A whole number within these bounds.
    Integer(i128, i128),
    /// A number of at most this size.
    Float(f64),
    Character,
    Text,
    /// The name of a member: what a flattened map asks for its keys.
    Identifier,
    Nothing,
    Option,
    List,
    Tuple(usize),
    Map,
    Struct(Named),
    /// Its variants.
    Enum(Named),
    /// A variant that holds nothing.
    Unit,
    /// A variant that holds one value.
    Newtype,
    /// A variant that holds so many values.
    Items(usize),
    /// A variant that has members.
    Members(&'static [&'static str]),
}

/// A type that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Named {
    /// As serde knows it.
    pub(super) name: &'static str,
    /// Its members or variants.
    pub(super) parts: &'static [&'static str],
    /// The whole name of who reads it: no two types share one.
    pub(super) reader: &'static str,
}

/// Why a given value is not taken, as far as it tells something of the type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reason {
    /// A member of this name has to be there.
    Missing(&'static str),
    /// These are the variants that there are.
    Variants(&'static [&'static str]),
    /// What serde says.
    Said(String),
    /// The reading went no further.
    Stopped,
}

/// What a type asks for at a place; none when there is no such place.
pub(super) fn ask<T: DeserializeOwned>(path: &[Step]) -> Option<Ask> {
    let (ask, said) = (RefCell::default(), RefCell::default());
    let probe = Probe { path, given: Given::Nothing, ask: &ask, said: &said };
    unharmed(|| drop(T::deserialize(probe)));
    ask.into_inner()
}

/// A type that panics at what no caller gives is no reason not to start.
fn unharmed(read: impl FnOnce()) {
    // What was said before it did counts.
    drop(catch_unwind(AssertUnwindSafe(read)));
}

/// Why a type does not take a value at a place, in serde's words; none when it does.
pub(super) fn refusal<T: DeserializeOwned>(path: &[Step], value: &Value) -> Option<String> {
    match give::<T>(path, Given::Value(value)) {
        Some(Ok(())) => None,
        Some(Err(Reason::Said(text))) => Some(text),
        _ => Some(String::new()),
    }
}

/// Why a type does not take an object at a place that has nothing, or this member with a text that means nothing.
pub(super) fn refusal_of_member<T: DeserializeOwned>(path: &[Step], member: Option<&str>) -> Option<Reason> {
    give::<T>(path, Given::Member(member))?.err()
}

fn give<T: DeserializeOwned>(path: &[Step], given: Given<'_>) -> Option<Result<(), Reason>> {
    let (ask, said) = (RefCell::default(), RefCell::default());
    let probe = Probe { path, given, ask: &ask, said: &said };
    unharmed(|| drop(probe.at(path, Whole(PhantomData::<T>))));
    said.into_inner()
}

struct Whole<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Whole<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}

/// What stands at the end of the path.
#[derive(Clone, Copy)]
enum Given<'a> {
    Nothing,
    Value(&'a Value),
    /// An object with nothing, or with this member.
    Member(Option<&'a str>),
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    /// What is left of it.
    path: &'a [Step],
    given: Given<'a>,
    ask: &'a RefCell<Option<Ask>>,
    said: &'a RefCell<Option<Result<(), Reason>>>,
}

impl<'a> Probe<'a> {
    /// Notes what is asked for.
    fn note<T>(self, ask: Ask) -> Result<T, Reason> {
        if self.path.is_empty() {
            *self.ask.borrow_mut() = Some(ask);
        }
        Err(Reason::Stopped)
    }

    /// Goes on with an item, or notes which list is asked for.
    fn items<'de, V: Visitor<'de>>(self, list: Ask, visitor: V) -> Result<V::Value, Reason> {
        match self.path {
            [Step::Item(before), rest @ ..] => visitor.visit_seq(Items { of: self, before, rest }),
            _ => self.note(list),
        }
    }

    /// Goes on with a member, or notes which members are asked for.
    fn members<'de, V: Visitor<'de>>(
        self,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        match self.path {
            [Step::Member(_), ..] => visitor.visit_map(One(self)),
            _ => self.note(Ask::Members(members)),
        }
    }

    /// Reads what stands at the rest of the path; at its end, what is given.
    fn at<'de, S: DeserializeSeed<'de>>(self, rest: &'a [Step], seed: S) -> Result<S::Value, Reason> {
        let inner = Self { path: rest, ..self };
        let read = match self.given {
            Given::Value(value) if rest.is_empty() => {
                seed.deserialize(value.clone()).map_err(|error| Reason::Said(error.to_string()))
            }
            Given::Member(member) if rest.is_empty() => {
                let members = member.into_iter().map(|name| (name, "\u{1}"));
                seed.deserialize(MapDeserializer::<_, Reason>::new(members))
            }
            _ => return seed.deserialize(inner),
        };
        *self.said.borrow_mut() = Some(read.map(drop));
        Err(Reason::Stopped)
    }
}

/// What an option holds, as a seed of its visitor.
struct Held<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Held<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(deserializer)
    }
}

macro_rules! asks {
    ($($method:ident => $ask:expr),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Reason> {
            self.note($ask)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Reason;

    asks! {
        deserialize_any => Ask::Any,
        deserialize_ignored_any => Ask::Any,
        deserialize_bool => Ask::Truth,
        deserialize_i8 => Ask::Integer(i8::MIN.into(), i8::MAX.into()),
        deserialize_i16 => Ask::Integer(i16::MIN.into(), i16::MAX.into()),
        deserialize_i32 => Ask::Integer(i32::MIN.into(), i32::MAX.into()),
        deserialize_i64 => Ask::Integer(i64::MIN.into(), i64::MAX.into()),
        deserialize_i128 => Ask::Integer(i128::MIN, i128::MAX),
        deserialize_u8 => Ask::Integer(0, u8::MAX.into()),
        deserialize_u16 => Ask::Integer(0, u16::MAX.into()),
        deserialize_u32 => Ask::Integer(0, u32::MAX.into()),
        deserialize_u64 => Ask::Integer(0, u64::MAX.into()),
        deserialize_u128 => Ask::Integer(0, i128::MAX),
        deserialize_f32 => Ask::Float(f32::MAX.into()),
        deserialize_f64 => Ask::Float(f64::MAX),
        deserialize_char => Ask::Character,
        deserialize_str => Ask::Text,
        deserialize_string => Ask::Text,
        deserialize_bytes => Ask::Text,
        deserialize_byte_buf => Ask::Text,
        deserialize_identifier => Ask::Identifier,
        deserialize_unit => Ask::Nothing,
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Reason> {
        self.note(Ask::Nothing)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.path {
            [Step::Held, rest @ ..] => self.at(rest, Held(visitor)),
            _ => self.note(Ask::Option),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Reason> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        self.items(Ask::List, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Reason> {
        self.items(Ask::Tuple(len), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Reason> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.path {
            [Step::Key | Step::Under(_), ..] => visitor.visit_map(One(self)),
            _ => self.note(Ask::Map),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        parts: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        match self.path {
            [Step::Member(_), ..] => visitor.visit_map(One(self)),
            _ => self.note(Ask::Struct(Named { name, parts, reader: type_name::<V>() })),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        parts: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        match self.path {
            [Step::Variant(variant), rest @ ..] => {
                visitor.visit_enum(Variant { of: Self { path: rest, ..self }, name: variant })
            }
            _ => self.note(Ask::Enum(Named { name, parts, reader: type_name::<V>() })),
        }
    }
}

/// The items before the one that is looked at, then that.
struct Items<'a> {
    of: Probe<'a>,
    before: &'a [Value],
    rest: &'a [Step],
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Reason;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Reason> {
        match self.before.split_first() {
            Some((item, rest)) => {
                self.before = rest;
                seed.deserialize(item.clone()).map(Some).map_err(|_| Reason::Stopped)
            }
            None => self.of.at(self.rest, seed).map(Some),
        }
    }
}

/// The one member that is looked at.
struct One<'a>(Probe<'a>);

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Reason;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Reason> {
        let key = match self.0.path {
            [Step::Key, rest @ ..] => self.0.at(rest, seed),
            [Step::Under(key), ..] => seed.deserialize(key.clone()).map_err(|_| Reason::Stopped),
            [Step::Member(name), ..] => {
                let name: StrDeserializer<'_, Reason> = (*name).into_deserializer();
                seed.deserialize(name)
            }
            _ => Err(Reason::Stopped),
        };
        key.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Reason> {
        match self.0.path {
            [_, rest @ ..] => self.0.at(rest, seed),
            [] => Err(Reason::Stopped),
        }
    }
}

struct Variant<'a> {
    of: Probe<'a>,
    name: &'static str,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Reason;
    type Variant = Probe<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Probe<'a>), Reason> {
        let name: StrDeserializer<'_, Reason> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.of))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Reason;

    fn unit_variant(self) -> Result<(), Reason> {
        self.note(Ask::Unit)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Reason> {
        match self.path {
            [Step::Content, rest @ ..] => self.at(rest, seed),
            _ => self.note(Ask::Newtype),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Reason> {
        self.items(Ask::Items(len), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        self.members(members, visitor)
    }
}

impl std::error::Error for Reason {}

impl Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the type is only looked at")
    }
}

impl de::Error for Reason {
    fn custom<T: Display>(text: T) -> Self {
        Self::Said(text.to_string())
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }

    fn unknown_variant(_: &str, variants: &'static [&'static str]) -> Self {
        Self::Variants(variants)
    }
}
