//! What API documents say of a walker.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Error, Expr, ExprLit, Lit, LitBool, LitInt, LitStr, Meta, Path, Result, Token, Type,
    meta::ParseNestedMeta,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

/// The keys of the attribute that only documents know.
#[derive(Default)]
pub(crate) struct Docs {
    calls: Vec<TokenStream>,
    description: Option<String>,
    model: Option<Type>,
}

impl Docs {
    /// Takes a key of documents; false for another.
    pub(crate) fn take(&mut self, key: &str, meta: &ParseNestedMeta<'_>) -> Result<bool> {
        let text = || meta.value()?.parse::<LitStr>();
        match key {
            "status_code" => {
                let status = status(&meta.value()?.parse()?)?;
                self.calls.push(quote!(.status_code(#status)));
            }
            "tags" => {
                let tags = text()?.value();
                let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
                self.calls.push(quote!(.tags(&[#(#tags),*])));
            }
            "summary" => {
                let text = text()?;
                self.calls.push(quote!(.summary(#text)));
            }
            "description" => self.description = Some(text()?.value()),
            "response_description" => {
                let text = text()?;
                self.calls.push(quote!(.response_description(#text)));
            }
            "responses" => {
                let inner;
                syn::parenthesized!(inner in meta.input);
                for Response { status, text } in Punctuated::<Response, Token![,]>::parse_terminated(&inner)?
                {
                    self.calls.push(quote!(.response(#status, #text)));
                }
            }
            "response_class" => {
                let text = text()?;
                self.calls.push(quote!(.response_class(#text)));
            }
            "response_model" => self.model = Some(meta.value()?.parse()?),
            "deprecated" => self.calls.push(quote!(.deprecated())),
            "include_in_schema" => {
                if !meta.value()?.parse::<LitBool>()?.value {
                    self.calls.push(quote!(.left_out()));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they add to the specs of a type. Its description is that of its comment unless the attribute has one.
    pub(crate) fn calls(self, attributes: &[Attribute], library: &Path) -> TokenStream {
        let Self { calls, description, model } = self;
        let description = description.unwrap_or_else(|| first_paragraph(attributes));
        let describe = (!description.is_empty()).then(|| quote!(.describe(#description)));
        let model = model.map(|of| quote!(.response_model(#library::walker::Model::of::<#of>())));
        quote!(#describe #(#calls)* #model)
    }
}

/// `404 = "there is no such thing"`.
struct Response {
    status: u16,
    text: LitStr,
}

impl Parse for Response {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let status = status(&input.parse()?)?;
        input.parse::<Token![=]>()?;
        Ok(Self { status, text: input.parse()? })
    }
}

fn status(number: &LitInt) -> Result<u16> {
    let status = number.base10_parse().ok().filter(|status| (200..600).contains(status));
    status.ok_or_else(|| Error::new(number.span(), "a status is a number from 200 to 599"))
}

/// What the comment of a field adds to the specs, behind the field.
pub(crate) fn of_field(attributes: &[Attribute]) -> Option<TokenStream> {
    let text = first_paragraph(attributes);
    (!text.is_empty()).then(|| quote!(.describe_field(#text)))
}

/// The first paragraph of the documentation, on one line.
fn first_paragraph(attributes: &[Attribute]) -> String {
    let texts: Vec<_> = attributes.iter().filter_map(doc).collect();
    let lines = texts.iter().flat_map(|text| lines(text));
    let paragraph = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    paragraph.collect::<Vec<_>>().join(" ")
}

fn doc(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if pair.path.is_ident("doc") => Some(text.value()),
        _ => None,
    }
}

/// The lines of one comment, without the stars that a block may have before each line but the first.
fn lines(comment: &str) -> impl Iterator<Item = &str> {
    let mut rest = comment.split('\n').map(str::trim).skip(1).filter(|line| !line.is_empty()).peekable();
    let has_stars = rest.peek().is_some() && rest.all(|line| line.starts_with('*'));
    comment.split('\n').map(str::trim).enumerate().map(move |(index, line)| match line.strip_prefix('*') {
        Some(text) if has_stars && index > 0 => text.trim_start(),
        _ => line,
    })
}
