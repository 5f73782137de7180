//! Name to walker: what the application has registered.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use walkabout_schema::{Fields, Kind, Name};

use crate::{
    Error, FieldError, Result,
    access::Rules,
    config::Config,
    input::{
        self, Input,
        schema::{self, Definitions, Member},
    },
    route::{self, Route, Template},
    users::OwnFields,
    walk::{ORDER, Stage},
    walker::{
        Abilities, Ability, AnyWalker, Archetype, Edge, FieldKind, KeyPlace, Node, NodeAbilities, Object,
        Part, Spec, Walker, When, is_media_type,
    },
};

/// The types that an application runs with. Filled while the runtime is built, then fixed.
#[derive(Default)]
pub struct Registry {
    walkers: BTreeMap<Name, Arc<WalkerType>>,
    aliases: HashMap<Name, Name>,
    places: HashMap<(Kind, &'static str), PlaceType>,
    /// What the types themselves say about access.
    pub(crate) rules: Arc<Rules>,
    /// What users have beside what the system knows of them.
    pub(crate) own_fields: OwnFields,
    user_type: Option<TypeId>,
    /// Writes letters to users in the application's words.
    #[cfg(feature = "http")]
    pub(crate) letters: Option<fn(&crate::mail::Letter) -> crate::mail::Mail>,
    about: About,
    errors: Vec<String>,
}

/// What the application is called.
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
pub(crate) struct About {
    pub(crate) title: String,
    pub(crate) version: String,
}

impl Default for About {
    fn default() -> Self {
        Self { title: "Walkabout".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

struct PlaceType {
    aliases: &'static [&'static str],
    type_id: TypeId,
    type_name: &'static str,
    abilities: Vec<Ability>,
}

/// Builds a walker from the fields of a request.
type FromInput = fn(Input<'_>) -> Result<Box<dyn AnyWalker>, Vec<FieldError>>;

/// A walker type with its type erased.
pub(crate) struct WalkerType {
    pub(crate) name: Name,
    pub(crate) spec: Spec,
    type_id: TypeId,
    type_name: &'static str,
    abilities: Vec<Ability>,
    from_input: FromInput,
    from_fields: fn(&Fields) -> Result<Box<dyn AnyWalker>, bson::error::Error>,
    /// What its fields take, for documents.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) members: fn(&mut Definitions) -> Vec<Member>,
    /// What runs at which kind of element, worked out at the first visit of one.
    plans: RwLock<HashMap<(Kind, Name), Arc<Plan>>>,
}

/// The abilities of one visit, in order.
pub(crate) type Plan = Vec<(Stage, Ability)>;

impl Registry {
    /// Sets what the application is called in API documents, and its version.
    pub fn title(&mut self, title: impl Into<String>, version: impl Into<String>) -> &mut Self {
        self.about = About { title: title.into(), version: version.into() };
        self
    }

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
        let mut spec = W::spec();
        self.place_fields(&name, &mut spec);
        self.check_answers(&name, &spec);
        let entry = Arc::new(WalkerType {
            name: name.clone(),
            spec,
            type_id: TypeId::of::<W>(),
            type_name: std::any::type_name::<W>(),
            abilities: abilities.list,
            from_input: |input| input::read::<W>(input).map(|walker| Box::new(walker) as _),
            from_fields: |fields| fields.decode::<W>().map(|walker| Box::new(walker) as Box<dyn AnyWalker>),
            members: schema::members::<W>,
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
        Arc::make_mut(&mut self.rules).add::<W>();
        self.walkers.insert(name, entry);
        self
    }

    /// What the application is called.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only API documents show it"))]
    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// Fields that the path has come from there.
    fn place_fields(&mut self, name: &Name, spec: &mut Spec) {
        // What is wrong with the path itself is told of the routes.
        let Ok(template) = Template::of(name.as_str(), spec) else { return };
        for variable in template.variables() {
            if matches!(spec.webhook, Some(KeyPlace::Path(name)) if name == variable) {
                continue;
            }
            match spec.fields.iter_mut().find(|field| field.name == variable) {
                Some(field) if matches!(field.part, Part::File | Part::Files) => {
                    self.errors
                        .push(format!("walker {name} has {{{variable}}} in its path, which is a file"));
                }
                Some(field) if field.kind != FieldKind::Excluded => field.part = Part::Path,
                Some(_) => self
                    .errors
                    .push(format!("walker {name} has {{{variable}}} in its path, which is excluded")),
                None => self
                    .errors
                    .push(format!("walker {name} has {{{variable}}} in its path, and no such field")),
            }
        }
        if let Some(wrong) = spec.webhook.and_then(|place| misplaced(place, spec, &template)) {
            self.errors.push(format!("walker {name} takes its key from {wrong}"));
        }
    }

    /// What a walker says of its own answers has to be of one kind.
    fn check_answers(&mut self, name: &Name, spec: &Spec) {
        let Some(class) = spec.docs.response_class else { return };
        if !is_media_type(class) {
            self.errors.push(format!(
                "walker {name} has the response_class {class:?}: write a media type without parameters, as \"text/html\""
            ));
        }
        if spec.model().is_some() {
            self.errors.push(format!(
                "walker {name} has a response_model, which is of JSON, and a response_class: leave one out"
            ));
        }
    }

    /// Adds a node type with its abilities. Types that a registered walker stands on are added by themselves.
    pub fn node<N: Node>(&mut self) -> &mut Self {
        self.place::<N>(|on| N::abilities(on))
    }

    /// Adds an edge type with its abilities.
    pub fn edge<E: Edge>(&mut self) -> &mut Self {
        self.place::<E>(|on| E::abilities(on))
    }

    /// Adds an object type. One without an access rule need not be added.
    pub fn object<O: Object>(&mut self) -> &mut Self {
        self.place::<O>(|_| {})
    }

    /// Says what users have beside address and password: see [`Walkabout::user`](crate::Walkabout::user).
    pub fn user<T: Serialize + DeserializeOwned + 'static>(&mut self) -> &mut Self {
        match OwnFields::of::<T>() {
            _ if self.user_type.is_some_and(|known| known != TypeId::of::<T>()) => {
                self.errors.push("two user types are registered: users have the fields of one".to_owned());
            }
            Ok(own) => (self.own_fields, self.user_type) = (own, Some(TypeId::of::<T>())),
            Err(error) => self.errors.push(error),
        }
        self
    }

    /// Writes letters to users: see [`Walkabout::letters`](crate::Walkabout::letters).
    #[cfg(feature = "http")]
    pub fn letters(&mut self, write: fn(&crate::mail::Letter) -> crate::mail::Mail) -> &mut Self {
        self.letters = Some(write);
        self
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
        Arc::make_mut(&mut self.rules).add::<T>();
        let mut abilities = NodeAbilities::new();
        register(&mut abilities);
        self.places.insert(
            (T::KIND, T::NAME),
            PlaceType {
                aliases: T::ALIASES,
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
        let mut errors: Vec<String> = self.errors.iter().cloned().chain(clashes).collect();
        errors.extend(self.ambiguous());
        let (routes, refused): (Vec<_>, Vec<_>) = self.routes().partition(Result::is_ok);
        errors.extend(refused.into_iter().filter_map(Result::err));
        errors.extend(route::clashes(&routes.into_iter().flatten().flatten().collect::<Vec<_>>()));
        if errors.is_empty() { Ok(()) } else { Err(Error::Build(errors.join("; "))) }
    }

    /// Works out what holds for walkers that do not say, once and for all.
    ///
    /// # Errors
    /// When a walker is in use already, which none is before its runtime is built.
    pub(crate) fn settle(&mut self, config: &Config) -> Result<()> {
        for (name, walker) in &mut self.walkers {
            let walker =
                Arc::get_mut(walker).ok_or_else(|| Error::Build(format!("walker {name} is in use")))?;
            walker.spec.settle(config);
        }
        Ok(())
    }

    /// Aliases of node, edge and object types that are names or aliases of others.
    fn ambiguous(&self) -> Vec<String> {
        let mut taken: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut errors = Vec::new();
        let places: BTreeMap<_, _> =
            self.places.iter().map(|((kind, name), place)| ((kind.word(), *name), (*kind, place))).collect();
        for ((word, name), (kind, place)) in places {
            for &alias in place.aliases {
                if self.places.contains_key(&(kind, alias)) {
                    errors.push(format!("{alias} is a {word} type and an alias of {word} type {name}"));
                } else if let Some(other) = taken.insert((word, alias), name) {
                    errors.push(format!("{alias} is an alias of {word} types {other} and {name}"));
                }
            }
        }
        errors
    }

    /// Where each walker is called.
    ///
    /// # Errors
    /// What is wrong with a path. There is none in a registry that was checked.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Result<Vec<Route>, String>> {
        self.walkers.values().map(|walker| {
            let aliases =
                self.aliases.iter().filter(|(_, name)| **name == walker.name).map(|(alias, _)| alias);
            let names = std::iter::once(&walker.name).chain(aliases);
            route::of(&walker.name, names, &walker.spec)
                .map_err(|error| format!("walker {} {error}", walker.name))
        })
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

    /// The type of the elements that are stored under a name.
    fn place_of<'a>(&'a self, kind: Kind, name: &'a Name) -> Option<&'a PlaceType> {
        let by_alias = || {
            let mut places = self.places.iter().filter(|((of, _), _)| *of == kind);
            places.find(|(_, place)| place.aliases.contains(&name.as_str())).map(|(_, place)| place)
        };
        self.places.get(&(kind, name.as_str())).or_else(by_alias)
    }

    /// What a walker and an element do when they meet.
    pub(crate) fn plan(&self, walker: &WalkerType, kind: Kind, name: &Name) -> Arc<Plan> {
        // The key is looked up by a tuple of owned parts; a name's clone is a counter.
        let key = (kind, name.clone());
        if let Some(plan) = walker.plans.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(plan);
        }
        let place = self
            .place_of(kind, name)
            .filter(|_| !walker.spec.unnoticed)
            .map_or(&[][..], |place| &place.abilities);
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

/// What is wrong with the place of a key, if anything.
fn misplaced(place: KeyPlace, spec: &Spec, template: &Template) -> Option<String> {
    let is_field = |name: &str, part| spec.field_of(name).is_some_and(|field| field.part == part);
    match place {
        KeyPlace::Header(name) => {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            let is_name = !name.is_empty() && name.bytes().all(is_token);
            (!is_name).then(|| format!("the header {name:?}: letters, digits, - and _ make a name"))
        }
        KeyPlace::Query(name) => {
            is_field(name, Part::Query).then(|| format!("{name:?} of the query, where it has a field"))
        }
        KeyPlace::Path(name) => {
            let is_there = template.variables().any(|variable| variable == name);
            let is_taken = spec.field_of(name).is_some();
            let taken = || format!("{{{name}}} of its path, where it has a field");
            let lacks = || format!("{{{name}}} of its path, which has no such variable");
            (!is_there).then(lacks).or_else(|| is_taken.then(taken))
        }
        KeyPlace::Body(name) => {
            let is_taken = spec.field_of(name).is_some_and(|field| field.part.as_str() == "body");
            let has_files = spec.fields.iter().any(|field| matches!(field.part, Part::File | Part::Files));
            let taken = || format!("{name:?} of the body, where it has a field");
            let late =
                || "the body, and files as well: who calls is to be known before files are read".to_owned();
            is_taken.then(taken).or_else(|| has_files.then(late))
        }
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
    pub(crate) fn build(&self, given: Map<String, Value>) -> Result<Box<dyn AnyWalker>, Vec<FieldError>> {
        (self.from_input)(Input::of(&self.spec, given))
    }

    /// Brings a stored walker back.
    pub(crate) fn restore(&self, fields: &Fields) -> Result<Box<dyn AnyWalker>, bson::error::Error> {
        (self.from_fields)(fields)
    }
}
