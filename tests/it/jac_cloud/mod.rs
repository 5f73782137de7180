//! Jac Cloud's contract, row by row: each row of its tables has a test over a real socket, on the walkers of `walkers`.
//!
//! `docs/jac-cloud.md` has the rows and what is different on purpose; it is generated from here.

pub mod app;
mod documents;
mod errors;
mod generation;
mod health;
mod places;
mod requests;
mod responses;
mod sending;
mod socket;
mod socket_errors;
mod specs;
mod specs_documents;
mod sso;
mod users;
mod util;
mod walkers;
mod webhook;

use std::fmt::Write;

/// A row of a table of Jac Cloud's contract.
#[derive(Clone, Copy)]
pub struct Row {
    /// Where the table is.
    section: &'static str,
    row: &'static str,
    /// What is different on purpose, and why.
    differs: Option<&'static str>,
}

/// Rows of one table, each with its test: `name "the row" |app| { … }`, or `name "the row" "what is different" |app| { … }`.
macro_rules! rows {
    (@why) => { None };
    (@why $why:literal) => { Some($why) };
    ($section:literal; $($name:ident $row:literal $($why:literal)? |$app:ident| $body:block)+) => {
        pub const ROWS: &[crate::jac_cloud::Row] = &[$(crate::jac_cloud::Row {
            section: $section,
            row: $row,
            differs: crate::jac_cloud::rows!(@why $($why)?),
        }),+];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let $app = crate::jac_cloud::app::App::start().await;
                $body
            }
        )+
    };
}
use rows;

/// What there is nothing to ask of.
const ABSENT: &[Row] = &[
    Row {
        section: "6.1 endpoints",
        row: "walkers made at run time",
        differs: Some("walkers are registered before the server starts"),
    },
    Row { section: "6.2 specs", row: "`schedule`", differs: Some("not there yet") },
];

const BEGIN: &str = "<!-- rows -->\n";
const END: &str = "<!-- end of rows -->\n";

#[test]
fn the_page_has_the_rows() {
    let mut rows = [
        errors::ROWS,
        health::ROWS,
        users::ROWS,
        sso::ROWS,
        documents::ROWS,
        webhook::ROWS,
        util::ROWS,
        generation::ROWS,
        specs::ROWS,
        specs_documents::ROWS,
        ABSENT,
        requests::ROWS,
        responses::ROWS,
        places::ROWS,
        socket::ROWS,
        socket_errors::ROWS,
        sending::ROWS,
    ]
    .concat();
    // A section may be in several files.
    rows.sort_by_key(|row| row.section);
    let rows = table(&rows);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/docs/jac-cloud.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{rows}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, wanted).unwrap();
    } else {
        assert_eq!(page, wanted, "UPDATE_DOCS=1 writes it");
    }
}

/// As Markdown.
fn table(rows: &[Row]) -> String {
    let mut text = "| section | row | here |\n|---|---|---|\n".to_owned();
    for Row { section, row, differs } in rows {
        writeln!(text, "| {section} | {row} | {} |", differs.unwrap_or("the same")).unwrap();
    }
    text
}
