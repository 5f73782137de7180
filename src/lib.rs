//! Walkabout: a persistent async-walker runtime for user-rooted graphs.

pub mod env;
pub mod store;
pub mod walker;

pub use walkabout_schema as schema;
