//! Features, through the public API and over real sockets.

#![allow(missing_docs, unreachable_pub, reason = "tests are read, not linked to")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has to stop"
)]

mod access;
mod admin;
mod airports;
mod built;
mod conformance;
mod cors;
mod database;
mod deploy;
mod durable;
mod endings;
mod engine;
mod govern;
mod hogs;
mod http;
mod jac_cloud;
mod macros;
mod matrix;
mod mongodb;
mod openapi;
mod respond;
mod routes;
mod settings;
mod socket;
mod specs;
mod stock;
mod support;
mod tidy;
mod uploads;
mod users;
mod util;
mod wakes;
mod webhook;
