//! The user's typed data, and how the engine holds it without knowing its type.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

/// Holds an element's fields as a decoded type, once somebody asked for one. Shared by every attempt that reads the element.
#[derive(Default)]
pub struct DecodedCell(OnceLock<Arc<dyn Any + Send + Sync>>);

impl DecodedCell {
    /// The decoded value, when it is of this type.
    pub(crate) fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.get().and_then(|value| Arc::clone(value).downcast().ok())
    }

    /// Keeps a decoded value for the next reader; without effect when one is there.
    pub(crate) fn keep<T: Any + Send + Sync>(&self, value: &Arc<T>) {
        let _ = self.0.set(Arc::clone(value) as Arc<dyn Any + Send + Sync>);
    }
}

impl fmt::Debug for DecodedCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "decoded" } else { "encoded" })
    }
}
