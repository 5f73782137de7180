//! Walkabout: a persistent async-walker runtime for user-rooted graphs.

#[cfg(all(feature = "embedded", feature = "http"))]
mod app;
#[cfg(feature = "http")]
pub mod cli;
mod commit;
pub mod config;
pub mod env;
mod error;
mod graph;
#[cfg(feature = "http")]
pub mod http;
pub mod publish;
pub mod registry;
mod runner;
pub mod runtime;
pub mod store;
mod submit;
pub mod testing;
mod walk;
pub mod walker;

#[cfg(all(feature = "embedded", feature = "http"))]
pub use app::Walkabout;
pub use error::{Error, FieldError, Result};

pub use walkabout_macros::{Edge, Node, Object, Walker, abilities, entry, exit, step};
pub use walkabout_schema as schema;

/// What every walker's file imports.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};

    pub use walkabout_macros::{Edge, Node, Object, Walker, abilities, entry, exit, step};

    pub use crate::walker::{
        Any, Context, DONE, Failure, Flow, Here, Outcome, Plain, Query, Root, Visitor, fail,
    };
}
