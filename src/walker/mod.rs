//! How a walker is written.

mod archetype;

pub use archetype::DecodedCell;
