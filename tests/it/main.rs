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
mod connections;
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
mod logs;
mod macros;
mod mail;
mod matrix;
mod mongodb;
mod openapi;
mod provider;
mod respond;
mod routes;
mod settings;
mod socket;
mod specs;
mod sso;
mod stock;
mod support;
mod tidy;
mod tls;
mod uploads;
mod users;
mod util;
mod wakes;
mod webhook;
