//! Walkabout: a durable runtime for async walkers over user-rooted graphs.
//!
//! Nodes and edges hang from each user's root; walkers travel that graph. An application registers its walkers and serves them:
//!
//! ```no_run
//! use walkabout::prelude::*;
//!
//! #[derive(Node, Serialize, Deserialize)]
//! struct City { name: String, #[serde(default)] visits: u64 }
//!
//! /// Counts the cities that can be reached from the caller's root.
//! #[derive(Walker, Serialize, Deserialize)]
//! #[walker(async)]
//! struct Census { #[serde(default)] #[walker(excluded)] cities: u64 }
//!
//! #[abilities]
//! impl Census {
//!     #[entry] async fn start(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
//!         cx.visit(here.out()).await
//!     }
//!     #[entry] async fn count(&mut self, here: Here<City>, cx: &mut Context) -> Outcome {
//!         self.cities += 1;
//!         here.edit().visits += 1;
//!         cx.progress(json!({ "cities": self.cities }));
//!         cx.visit(here.out()).await
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     walkabout::Walkabout::new().walker::<Census>().serve().await
//! }
//! ```
//!
//! In reading order: [`walker`], [`testing`], [`runtime`], [`govern`], [`traverse`], [`config`], [`store`], [`publish`].
#![doc = include_str!("docs/architecture.md")]

/// The code on that page is compiled.
#[cfg(all(doctest, feature = "embedded", feature = "http"))]
#[doc = include_str!("docs/from-jac-cloud.md")]
mod from_jac_cloud {}

mod access;
#[cfg(all(feature = "embedded", feature = "http"))]
mod app;
#[cfg(feature = "http")]
pub mod cli;
mod commit;
pub mod config;
pub mod env;
mod error;
pub mod files;
pub mod govern;
mod graph;
#[cfg(feature = "http")]
pub mod http;
mod ids;
mod input;
#[cfg(all(feature = "embedded", feature = "http"))]
mod log;
#[cfg(feature = "mail")]
pub mod mail;
pub mod publish;
pub mod registry;
mod route;
mod run;
mod runner;
pub mod runtime;
pub mod store;
mod submit;
pub mod testing;
pub mod traverse;
pub mod users;
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
        Any, Context, DONE, Failure, Flow, Here, Outcome, Plain, Query, Response, Root, Upload, Visitor, fail,
    };
}
