//! What serde's attributes say.

use proc_macro2::TokenStream;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Path, Result};

use crate::archetype::key;

/// What they say of a struct or a field, as far as it matters here.
#[derive(Default)]
pub(crate) struct Serde {
    pub(crate) has_default: bool,
    pub(crate) rename: Option<String>,
    pub(crate) rename_all: Option<String>,
    pub(crate) is_skipped: bool,
    /// A function of the user's reads it.
    pub(crate) is_read_by_hand: bool,
    flatten: Option<Path>,
}

impl Serde {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                let key = key(&meta);
                match key.as_str() {
                    "default" => found.has_default = true,
                    "flatten" => found.flatten = Some(meta.path.clone()),
                    "skip" | "skip_deserializing" => found.is_skipped = true,
                    "with" | "deserialize_with" => found.is_read_by_hand = true,
                    _ => {}
                }
                // What is not ours is passed over, in whatever form it comes.
                if meta.input.peek(syn::Token![=]) {
                    let value: Expr = meta.value()?.parse()?;
                    if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value {
                        match key.as_str() {
                            "rename" => found.rename = Some(text.value()),
                            "rename_all" => found.rename_all = Some(text.value()),
                            _ => {}
                        }
                    }
                } else if key.starts_with("rename") && meta.input.peek(syn::token::Paren) {
                    // The name of an input is the one it is read under.
                    meta.parse_nested_meta(|side| {
                        let text: LitStr = side.value()?.parse()?;
                        match (key.as_str(), side.path.is_ident("deserialize")) {
                            ("rename", true) => found.rename = Some(text.value()),
                            ("rename_all", true) => found.rename_all = Some(text.value()),
                            _ => {}
                        }
                        Ok(())
                    })?;
                } else if meta.input.peek(syn::token::Paren) {
                    let inner;
                    syn::parenthesized!(inner in meta.input);
                    let _: TokenStream = inner.parse()?;
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Refuses a field of which one cannot see here what it adds to the others.
    pub(crate) fn refuse_flatten(&self, what: &str) -> Result<()> {
        let Some(flatten) = &self.flatten else { return Ok(()) };
        let text =
            format!("the fields of {what} must be known from its type: write them out, or remove `flatten`");
        Err(Error::new_spanned(flatten, text))
    }
}
