//! The input as serde asks for it.

use std::fmt::Display;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor, value::BorrowedStrDeserializer,
    },
};
use serde_json::{Map, Value, json};

use super::{
    lax::{self, Unfit},
    made_up::MadeUp,
    notes::{Notes, Path},
};

/// Why reading stops.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is noted.
    Noted,
    /// Something does not fit, and where is not known yet.
    Unfit(Unfit),
    /// A struct needs this member.
    Missing(&'static str),
    /// A struct takes no member of this name.
    Unknown(String),
}

/// One value of the input, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de, 'p> {
    value: &'de Value,
    path: &'p Path<'p>,
    notes: &'p Notes<'p>,
}

impl<'de, 'p> Reader<'de, 'p> {
    pub(super) fn new(value: &'de Value, path: &'p Path<'p>, notes: &'p Notes<'p>) -> Self {
        Self { value, path, notes }
    }

    /// Reads a type from it.
    pub(super) fn read<T: Deserialize<'de>>(self) -> Result<T, Fault> {
        self.placed(T::deserialize(self))
    }

    /// Reads a value that stands in this one.
    fn inner<T: DeserializeSeed<'de>>(
        &self,
        value: &'de Value,
        path: &Path<'_>,
        seed: T,
    ) -> Result<T::Value, Fault> {
        if self.notes.is_made_up(path) {
            return made_up(self.notes, path, seed.deserialize(MadeUp::default()));
        }
        let reader = Reader { value, path, notes: self.notes };
        reader.placed(seed.deserialize(reader))
    }

    /// Of a value that a query has several times, the last.
    fn single(mut self) -> Self {
        if let Value::Array(items) = self.value
            && let Some(last @ Value::String(_)) = items.last()
            && self.notes.is_of_query(self.path)
        {
            self.value = last;
        }
        self
    }

    fn note(&self, unfit: Unfit) {
        self.notes.note(unfit.kind, unfit.msg, unfit.ctx, self.path, self.value);
    }

    /// Notes that this value does not fit. What a made-up one comes to takes its place.
    fn instead<T>(&self, unfit: Unfit, made: Result<T, Fault>) -> Result<T, Fault> {
        self.note(unfit);
        made_up(self.notes, self.path, made)
    }

    /// What a visitor said of this value; a fault is noted with its place.
    fn placed<T>(&self, said: Result<T, Fault>) -> Result<T, Fault> {
        said.map_err(|fault| {
            let loc = match fault {
                Fault::Noted => return Fault::Noted,
                Fault::Unfit(unfit) => {
                    self.note(unfit);
                    self.path.loc()
                }
                Fault::Missing(name) => {
                    let path = Path::Member(self.path, name);
                    self.notes.note("missing", "Field required", Value::Null, &path, self.value);
                    path.loc()
                }
                Fault::Unknown(name) => {
                    let path = Path::Member(self.path, &name);
                    let given = self.value.get(&name).unwrap_or(&Value::Null);
                    let msg = "Extra inputs are not permitted";
                    self.notes.note("extra_forbidden", msg, Value::Null, &path, given);
                    path.loc()
                }
            };
            self.notes.refused.set(Some(loc));
            Fault::Noted
        })
    }

    fn integer<V: Visitor<'de>>(self, low: i128, high: i128, visitor: V) -> Result<V::Value, Fault> {
        let this = self.single();
        match lax::integer(this.value, low, high) {
            Ok(number) => this.placed(visit_integer(visitor, number)),
            Err(unfit) => this.instead(unfit, visitor.visit_i64(0)),
        }
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let this = self.single();
        match lax::float(this.value) {
            Ok(number) => this.placed(visitor.visit_f64(number)),
            Err(unfit) => this.instead(unfit, visitor.visit_f64(0.0)),
        }
    }

    fn items(self, items: &'de [Value], len: usize) -> Items<'de, 'p> {
        Items { of: self, items, index: 0, len }
    }

    fn members(self, members: &'de Map<String, Value>, names: &'static [&'static str]) -> Members<'de, 'p> {
        let mut absent = self.notes.absent(self.path, names);
        absent.retain(|name| !members.contains_key(*name));
        Members { of: self, members: members.iter(), absent, next: None }
    }
}

/// What reading a made-up value came to. That it does not fit either is no news.
fn made_up<T>(notes: &Notes<'_>, path: &Path<'_>, said: Result<T, Fault>) -> Result<T, Fault> {
    said.map_err(|_| {
        notes.refused.set(Some(path.loc()));
        Fault::Noted
    })
}

fn visit_integer<'de, V: Visitor<'de>>(visitor: V, number: i128) -> Result<V::Value, Fault> {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => visitor.visit_i64(number),
        (_, Ok(number)) => visitor.visit_u64(number),
        _ => visitor.visit_i128(number),
    }
}

macro_rules! integers {
    ($($method:ident: $of:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.integer(<$of>::MIN as i128, <$of>::MAX as i128, visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let this = match self.value {
            Value::Array(items) if items.len() == 1 => self.single(),
            _ => self,
        };
        this.placed(match this.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_i64(number),
                (_, Some(number), _) => visitor.visit_u64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(this.items(items, items.len())),
            Value::Object(members) => visitor.visit_map(this.members(members, &[])),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let this = self.single();
        match lax::truth(this.value) {
            Ok(truth) => this.placed(visitor.visit_bool(truth)),
            Err(unfit) => this.instead(unfit, visitor.visit_bool(false)),
        }
    }

    integers! {
        deserialize_i8: i8, deserialize_i16: i16, deserialize_i32: i32, deserialize_i64: i64, deserialize_i128: i128,
        deserialize_u8: u8, deserialize_u16: u16, deserialize_u32: u32, deserialize_u64: u64
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.integer(0, i128::MAX, visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.float(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.float(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let this = self.single();
        match this.value {
            Value::String(text) => this.placed(visitor.visit_borrowed_str(text)),
            _ => {
                let unfit = Unfit::new("string_type", "Input should be a valid string");
                this.instead(unfit, visitor.visit_str(""))
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let this = self.single();
        match this.value {
            Value::String(text) => this.placed(visitor.visit_borrowed_bytes(text.as_bytes())),
            Value::Array(items) => this.placed(visitor.visit_seq(this.items(items, items.len()))),
            _ => {
                let unfit = Unfit::new("bytes_type", "Input should be a valid bytes");
                this.instead(unfit, visitor.visit_bytes(b""))
            }
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.value.is_null() {
            self.placed(visitor.visit_none())
        } else {
            self.placed(visitor.visit_some(self))
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.value.is_null() {
            return self.placed(visitor.visit_unit());
        }
        self.instead(Unfit::new("none_required", "Input should be None"), visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.placed(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Array(items) => self.placed(visitor.visit_seq(self.items(items, items.len()))),
            Value::String(_) if self.notes.is_of_query(self.path) => {
                self.placed(visitor.visit_seq(self.items(std::slice::from_ref(self.value), 1)))
            }
            _ => {
                let unfit = Unfit::new("list_type", "Input should be a valid list");
                self.instead(unfit, MadeUp::default().deserialize_seq(visitor))
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        let Value::Array(items) = self.value else {
            let unfit = Unfit::new("tuple_type", "Input should be a valid tuple");
            return self.instead(unfit, MadeUp::default().deserialize_tuple(len, visitor));
        };
        for index in items.len()..len {
            let path = Path::Item(self.path, index);
            self.notes.note("missing", "Field required", Value::Null, &path, self.value);
        }
        if items.len() > len {
            let given = items.len();
            let msg = format!("Tuple should have at most {len} items after validation, not {given}");
            let ctx = json!({ "field_type": "Tuple", "max_length": len, "actual_length": given });
            self.note(Unfit::new("too_long", msg).with(ctx));
        }
        self.placed(visitor.visit_seq(self.items(items, len)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Object(members) => self.placed(visitor.visit_map(self.members(members, &[]))),
            _ => {
                let unfit = Unfit::new("dict_type", "Input should be a valid dictionary");
                self.instead(unfit, MadeUp::default().deserialize_map(visitor))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::Object(members) => self.placed(visitor.visit_map(self.members(members, names))),
            _ => self.instead(no_struct(name), MadeUp::default().deserialize_struct(name, names, visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let this = self.single();
        match this.value {
            Value::String(text) => {
                this.placed(visitor.visit_enum(Variant { of: this, name: text, content: None }))
            }
            Value::Object(members) if members.len() == 1 => {
                let Some((name, content)) = members.iter().next() else { return Err(Fault::Noted) };
                this.placed(visitor.visit_enum(Variant { of: this, name, content: Some(content) }))
            }
            _ => this
                .instead(no_variant(variants), MadeUp::default().deserialize_enum(name, variants, visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

fn no_struct(name: &str) -> Unfit {
    let msg = format!("Input should be a dictionary or an instance of {name}");
    Unfit::new("dataclass_type", msg).with(json!({ "class_name": name }))
}

fn no_variant(variants: &[&str]) -> Unfit {
    let quoted: Vec<String> = variants.iter().map(|variant| format!("'{variant}'")).collect();
    let expected = match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    };
    Unfit::new("enum", format!("Input should be {expected}")).with(json!({ "expected": expected }))
}

/// The first `len` items of a list; those that it lacks are made up.
struct Items<'de, 'p> {
    of: Reader<'de, 'p>,
    items: &'de [Value],
    index: usize,
    len: usize,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if self.index >= self.len {
            return Ok(None);
        }
        let path = Path::Item(self.of.path, self.index);
        let item = self.items.get(self.index);
        self.index += 1;
        match item {
            Some(item) => self.of.inner(item, &path, seed).map(Some),
            None => made_up(self.of.notes, &path, seed.deserialize(MadeUp::default())).map(Some),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len.saturating_sub(self.index))
    }
}

/// The members of an object, then those that are made up.
struct Members<'de, 'p> {
    of: Reader<'de, 'p>,
    members: serde_json::map::Iter<'de>,
    absent: Vec<&'static str>,
    next: Option<(&'de str, Option<&'de Value>)>,
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let given = self.members.next().map(|(name, value)| (name.as_str(), Some(value)));
        let Some((name, value)) = given.or_else(|| Some((self.absent.pop()?, None))) else { return Ok(None) };
        self.next = Some((name, value));
        let key = Key { name, of: self.of };
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((name, value)) = self.next.take() else { return Err(Fault::Noted) };
        let path = Path::Member(self.of.path, name);
        match value {
            Some(value) => self.of.inner(value, &path, seed),
            None => made_up(self.of.notes, &path, seed.deserialize(MadeUp::default())),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}

/// The name of a member, which may stand for a number.
struct Key<'de, 'p> {
    name: &'de str,
    of: Reader<'de, 'p>,
}

impl<'de> Key<'de, '_> {
    /// Reads the name like a text.
    fn meant<V, T>(
        self,
        read: impl FnOnce(&Value) -> Result<T, Unfit>,
        visit: impl FnOnce(T) -> Result<V, Fault>,
    ) -> Result<V, Fault> {
        let text = Value::from(self.name);
        let member = Path::Member(self.of.path, self.name);
        let path = Path::Member(&member, "[key]");
        let said = match read(&text) {
            Ok(meant) => visit(meant),
            Err(unfit) => Err(Fault::Unfit(unfit)),
        };
        said.map_err(|fault| {
            if let Fault::Unfit(Unfit { kind, msg, ctx }) = fault {
                self.of.notes.note(kind, msg, ctx, &path, &text);
                self.of.notes.refused.set(Some(member.loc()));
            }
            Fault::Noted
        })
    }
}

macro_rules! integer_keys {
    ($($method:ident: $of:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let read = |text: &Value| lax::integer(text, <$of>::MIN as i128, <$of>::MAX as i128);
            self.meant(read, |number| visit_integer(visitor, number))
        })*
    };
}

impl<'de> Deserializer<'de> for Key<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.name)
    }

    integer_keys! {
        deserialize_i8: i8, deserialize_i16: i16, deserialize_i32: i32, deserialize_i64: i64, deserialize_u8: u8,
        deserialize_u16: u16, deserialize_u32: u32, deserialize_u64: u64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.meant(lax::truth, |truth| visitor.visit_bool(truth))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        BorrowedStrDeserializer::new(self.name).deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// A variant by its name, with what belongs to it.
struct Variant<'de, 'p> {
    of: Reader<'de, 'p>,
    name: &'de str,
    content: Option<&'de Value>,
}

impl<'de, 'p> EnumAccess<'de> for Variant<'de, 'p> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let name: BorrowedStrDeserializer<'de, Fault> = BorrowedStrDeserializer::new(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> Variant<'de, '_> {
    fn content<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let Some(content) = self.content else {
            let msg = format!("Value error, '{0}' holds something: give {{\"{0}\": …}}", self.name);
            return Err(Fault::Unfit(Unfit::new("value_error", msg)));
        };
        self.of.inner(content, &Path::Member(self.of.path, self.name), seed)
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            Some(_) => self.content(std::marker::PhantomData),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        self.content(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content(Parts { visitor, len, names: None })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.content(Parts { visitor, len: 0, names: Some(names) })
    }
}

/// Reads the parts of a variant: its members, or so many items.
struct Parts<V> {
    visitor: V,
    len: usize,
    names: Option<&'static [&'static str]>,
}

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Parts<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<V::Value, D::Error> {
        match self.names {
            Some(names) => reader.deserialize_struct("the variant", names, self.visitor),
            None => reader.deserialize_tuple(self.len, self.visitor),
        }
    }
}

impl std::error::Error for Fault {}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Noted => f.write_str("something does not fit"),
            Self::Unfit(unfit) => f.write_str(&unfit.msg),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Unknown(name) => write!(f, "{name} is not expected"),
        }
    }
}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Self {
        let text = text.to_string();
        let text = if text.starts_with("data did not match any variant") {
            "it has none of the forms that are taken here"
        } else {
            &text
        };
        Self::Unfit(Unfit::new("value_error", format!("Value error, {text}")))
    }

    /// Of what serde had put aside before it knew what to expect.
    fn invalid_type(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let unfit = match expected.trim_start_matches("a ").trim_start_matches("an ") {
            "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" | "isize" | "integer" => {
                Unfit::new("int_type", "Input should be a valid integer")
            }
            "f32" | "f64" | "float" => Unfit::new("float_type", "Input should be a valid number"),
            "string" => Unfit::new("string_type", "Input should be a valid string"),
            "boolean" => Unfit::new("bool_type", "Input should be a valid boolean"),
            "sequence" => Unfit::new("list_type", "Input should be a valid list"),
            "map" => Unfit::new("dict_type", "Input should be a valid dictionary"),
            other => match other.strip_prefix("struct ") {
                Some(name) => no_struct(name),
                None => return Self::custom(format!("invalid type: {given}, expected {expected}")),
            },
        };
        Self::Unfit(unfit)
    }

    fn unknown_variant(_: &str, variants: &'static [&'static str]) -> Self {
        Self::Unfit(no_variant(variants))
    }

    fn unknown_field(name: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown(name.to_owned())
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}
