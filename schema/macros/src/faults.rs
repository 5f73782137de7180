//! Faults that are reported together.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Error, Result};

/// What is wrong so far. As tokens: the compile errors.
#[derive(Default)]
pub(crate) struct Faults(Option<Error>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Error) {
        match &mut self.0 {
            Some(all) => all.combine(fault),
            none => *none = Some(fault),
        }
    }

    /// Keeps what is right, and adds what is not.
    pub(crate) fn sort<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    /// The result, when nothing was wrong with it.
    pub(crate) fn finish<T>(self, result: T) -> Result<T> {
        self.0.map_or(Ok(result), Err)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl ToTokens for Faults {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.as_ref().map(Error::to_compile_error));
    }
}
