//! Name to walker: what the application has registered.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::{Map, Value};
use walkabout_schema::{Fields, Kind, Name};

use crate::{
    Error, FieldError, Result, lax,
    walk::{ORDER, Stage},
    walker::{
        Abilities, Ability, AnyWalker, Archetype, Edge, FieldKind, Node, NodeAbilities, Spec, Walker, When,
    },
};

/// The types that an application runs with. Filled while the runtime is built, then fixed.
#[derive(Default)]
pub struct Registry {
    walkers: BTreeMap<Name, Arc<WalkerType>>,
    aliases: HashMap<Name, Name>,
    places: HashMap<(Kind, &'static str), PlaceType>,
    errors: Vec<String>,
}

struct PlaceType {
    type_id: TypeId,
    type_name: &'static str,
    abilities: Vec<Ability>,
}

/// Builds a walker from the fields of a request.
type FromJson = fn(Map<String, Value>) -> Result<Box<dyn AnyWalker>, Vec<FieldError>>;

/// A walker type with its type erased.
pub(crate) struct WalkerType {
    pub(crate) name: Name,
    pub(crate) spec: Spec,
    type_id: TypeId,
    type_name: &'static str,
    abilities: Vec<Ability>,
    from_json: FromJson,
    from_fields: fn(&Fields) -> Result<Box<dyn AnyWalker>, bson::error::Error>,
    /// What runs at which kind of element, worked out at the first visit of one.
    plans: RwLock<HashMap<(Kind, Name), Arc<Plan>>>,
}

/// The abilities of one visit, in order.
pub(crate) type Plan = Vec<(Stage, Ability)>;

impl Registry {
    /// Adds a walker, under its name and its aliases, and the node and edge types that it stands on.
    pub fn walker<W: Walker>(&mut self) -> &mut Self {
        let name = match Name::new(W::NAME) {
            Ok(name) => name,
            Err(error) => {
                self.errors.push(format!("walker type {}: {error}", std::any::type_name::<W>()));
                return self;
            }
        };
        let abilities = Abilities::<W>::collect();
        for (index, ability) in abilities.list.iter().enumerate() {
            if abilities.list.iter().take(index).any(|other| other.name == ability.name) {
                self.errors.push(format!("walker {name} has two abilities named {}", ability.name));
            }
        }
        for place in &abilities.places {
            place(self);
        }
        let entry = Arc::new(WalkerType {
            name: name.clone(),
            spec: W::spec(),
            type_id: TypeId::of::<W>(),
            type_name: std::any::type_name::<W>(),
            abilities: abilities.list,
            from_json: from_json::<W>,
            from_fields: |fields| fields.decode::<W>().map(|walker| Box::new(walker) as Box<dyn AnyWalker>),
            plans: RwLock::default(),
        });
        for field in &entry.spec.fields {
            if entry.spec.fields.iter().filter(|other| other.name == field.name).count() > 1 {
                self.errors.push(format!("walker {name} has two fields named {}", field.name));
            }
        }
        for alias in W::ALIASES {
            match Name::new(alias) {
                Ok(alias) => drop(self.aliases.insert(alias, name.clone())),
                Err(error) => self.errors.push(format!("alias of walker {name}: {error}")),
            }
        }
        if let Some(other) = self.walkers.get(&name) {
            if other.type_id != entry.type_id {
                self.errors.push(format!(
                    "two walkers are named {name}: {} and {}; give one another name with #[walker(name = \"…\")]",
                    other.type_name, entry.type_name
                ));
            }
            return self;
        }
        self.walkers.insert(name, entry);
        self
    }

    /// Adds a node type with its abilities. Types that a registered walker stands on are added by themselves.
    pub fn node<N: Node>(&mut self) -> &mut Self {
        self.place::<N>(|on| N::abilities(on))
    }

    /// Adds an edge type with its abilities.
    pub fn edge<E: Edge>(&mut self) -> &mut Self {
        self.place::<E>(|on| E::abilities(on))
    }

    fn place<T: Archetype>(&mut self, register: fn(&mut NodeAbilities<T>)) -> &mut Self {
        if let Err(error) = Name::new(T::NAME) {
            self.errors.push(format!("type {}: {error}", std::any::type_name::<T>()));
        }
        if let Some(other) = self.places.get(&(T::KIND, T::NAME)) {
            if other.type_id != TypeId::of::<T>() {
                self.errors.push(format!(
                    "two {} types are named {}: {} and {}",
                    T::KIND.word(),
                    T::NAME,
                    other.type_name,
                    std::any::type_name::<T>()
                ));
            }
            return self;
        }
        let mut abilities = NodeAbilities::new();
        register(&mut abilities);
        self.places.insert(
            (T::KIND, T::NAME),
            PlaceType {
                type_id: TypeId::of::<T>(),
                type_name: std::any::type_name::<T>(),
                abilities: abilities.list,
            },
        );
        self
    }

    /// Fails with everything that is wrong with what was registered.
    pub(crate) fn check(&self) -> Result<()> {
        let clashes = self.aliases.iter().filter(|(alias, _)| self.walkers.contains_key(*alias));
        let clashes =
            clashes.map(|(alias, name)| format!("{alias} is a walker and an alias of walker {name}"));
        let errors: Vec<String> = self.errors.iter().cloned().chain(clashes).collect();
        if errors.is_empty() { Ok(()) } else { Err(Error::Build(errors.join("; "))) }
    }

    /// The walker of a name or alias.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<WalkerType>> {
        self.walkers.get(name).or_else(|| self.walkers.get(self.aliases.get(name)?))
    }

    /// The walker of a type.
    pub(crate) fn of_type<W: Walker>(&self) -> Option<&Arc<WalkerType>> {
        self.walkers.get(W::NAME).filter(|entry| entry.type_id == TypeId::of::<W>())
    }

    /// All walkers, by name.
    pub(crate) fn walkers(&self) -> impl Iterator<Item = &Arc<WalkerType>> {
        self.walkers.values()
    }

    /// What a walker and an element do when they meet.
    pub(crate) fn plan(&self, walker: &WalkerType, kind: Kind, name: &Name) -> Arc<Plan> {
        // The key is looked up by a tuple of owned parts; a name's clone is a counter.
        let key = (kind, name.clone());
        if let Some(plan) = walker.plans.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(plan);
        }
        let place = self.places.get(&(kind, name.as_str())).map_or(&[][..], |place| &place.abilities);
        let mut plan = Plan::new();
        for stage in ORDER {
            let (list, when, untyped) = match stage {
                Stage::WalkerEntry => (&walker.abilities[..], When::Entry, false),
                Stage::WalkerExit => (&walker.abilities[..], When::Exit, false),
                Stage::PlaceEntryAny => (place, When::Entry, true),
                Stage::PlaceEntry => (place, When::Entry, false),
                Stage::PlaceExit => (place, When::Exit, false),
                Stage::PlaceExitAny => (place, When::Exit, true),
                Stage::Start | Stage::End => continue,
            };
            let fits = list.iter().filter(|ability| {
                ability.when == when
                    && ability.untyped == untyped
                    && (ability.place)(kind, name)
                    && ability.visitor.is_none_or(|visitor| visitor == walker.name.as_str())
            });
            plan.extend(fits.map(|ability| (stage, ability.clone())));
        }
        let plan = Arc::new(plan);
        let mut plans = walker.plans.write().unwrap_or_else(PoisonError::into_inner);
        // Names come from stored documents, so they are bounded here and not trusted to be few.
        if plans.len() < 4096 {
            plans.insert(key, Arc::clone(&plan));
        }
        plan
    }
}

impl WalkerType {
    /// The abilities that run once: at the start or at the end.
    pub(crate) fn untyped(&self, stage: Stage) -> impl Iterator<Item = &Ability> {
        let when = if stage == Stage::Start { When::Entry } else { When::Exit };
        self.abilities.iter().filter(move |ability| ability.untyped && ability.when == when)
    }

    /// An ability by name, for `cx.then`.
    pub(crate) fn ability(&self, name: &str) -> Option<&Ability> {
        self.abilities.iter().find(|ability| ability.name == name)
    }

    /// Builds the walker from a caller's fields. Excluded and unknown ones are dropped.
    pub(crate) fn build(&self, mut given: Map<String, Value>) -> Result<Box<dyn AnyWalker>, Vec<FieldError>> {
        let mut fields = Map::new();
        let mut missing = Vec::new();
        for field in &self.spec.fields {
            match (field.kind, given.remove(field.name)) {
                (FieldKind::Required | FieldKind::Optional, Some(value)) => {
                    drop(fields.insert(field.name.to_owned(), value))
                }
                (FieldKind::Required, None) => missing.push(field.name),
                (FieldKind::Excluded, _) | (FieldKind::Optional, None) => {}
            }
        }
        if !missing.is_empty() {
            let input = Value::Object(fields);
            return Err(missing
                .into_iter()
                .map(|name| FieldError {
                    kind: "missing".to_owned(),
                    loc: vec![Value::from(name)],
                    msg: "Field required".to_owned(),
                    input: input.clone(),
                })
                .collect());
        }
        (self.from_json)(fields)
    }

    /// Brings a stored walker back.
    pub(crate) fn restore(&self, fields: &Fields) -> Result<Box<dyn AnyWalker>, bson::error::Error> {
        (self.from_fields)(fields)
    }
}

/// Values of one request that are taken for what they mean; each costs one more reading.
const LAX_MAX: usize = 32;

fn from_json<W: Walker>(fields: Map<String, Value>) -> Result<Box<dyn AnyWalker>, Vec<FieldError>> {
    if fields.is_empty() {
        // The common case of a walker without fields needs no copy of the input.
        if let Ok(walker) = W::deserialize(serde::de::value::MapDeserializer::<_, serde_json::Error>::new(
            std::iter::empty::<(&str, &str)>(),
        )) {
            return Ok(Box::new(walker));
        }
    }
    let mut input = Value::Object(fields);
    for _ in 0..LAX_MAX {
        let refused = match serde_path_to_error::deserialize::<_, W>(&input) {
            Ok(walker) => return Ok(Box::new(walker)),
            Err(error) => field_error(&error, &input),
        };
        let Some(meant) = lax::meant(&refused.kind, &refused.input) else { return Err(vec![refused]) };
        match at(&mut input, &refused.loc) {
            Some(place) if *place != meant => *place = meant,
            _ => return Err(vec![refused]),
        }
    }
    let walker = serde_path_to_error::deserialize::<_, W>(&input);
    walker.map(|walker| Box::new(walker) as _).map_err(|error| vec![field_error(&error, &input)])
}

/// The value at a place of a value.
fn at<'a>(value: &'a mut Value, loc: &[Value]) -> Option<&'a mut Value> {
    loc.iter().try_fold(value, |value, segment| match segment {
        Value::String(name) => value.get_mut(name),
        other => value.get_mut(usize::try_from(other.as_u64()?).ok()?),
    })
}

/// Says where and what, in Pydantic's words where it has some.
fn field_error(error: &serde_path_to_error::Error<serde_json::Error>, input: &Value) -> FieldError {
    use serde_path_to_error::Segment;
    let mut loc = Vec::new();
    let mut at = input;
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => {
                loc.push(Value::from(*index));
                at = at.get(index).unwrap_or(&Value::Null);
            }
            Segment::Map { key } => {
                loc.push(Value::from(key.as_str()));
                at = at.get(key).unwrap_or(&Value::Null);
            }
            Segment::Enum { variant } => loc.push(Value::from(variant.as_str())),
            Segment::Unknown => {}
        }
    }
    let text = error.inner().to_string();
    let expected = text.rsplit("expected ").next().unwrap_or_default();
    let (kind, msg) = if text.starts_with("missing field") {
        ("missing", "Field required".to_owned())
    } else if text.starts_with("invalid type") || text.starts_with("invalid value") {
        match expected.trim_start_matches("a ").trim_start_matches("an ") {
            "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" | "isize" | "integer" => {
                ("int_type", "Input should be a valid integer".to_owned())
            }
            "f32" | "f64" | "float" => ("float_type", "Input should be a valid number".to_owned()),
            "string" => ("string_type", "Input should be a valid string".to_owned()),
            "boolean" => ("bool_type", "Input should be a valid boolean".to_owned()),
            "sequence" => ("list_type", "Input should be a valid list".to_owned()),
            "map" => ("dict_type", "Input should be a valid dictionary".to_owned()),
            _ => ("value_error", format!("Value error, {text}")),
        }
    } else {
        ("value_error", format!("Value error, {text}"))
    };
    FieldError { kind: kind.to_owned(), loc, msg, input: at.clone() }
}
