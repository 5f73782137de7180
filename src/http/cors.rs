//! What browsers ask about requests from pages of other origins (CORS). Without `allow_origins` there are no answers, so no such page
//! reads anything here.

use std::time::Duration;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header},
};
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::requests::REQUEST_ID;
use crate::{Error, Result, config::Config};

/// How long a browser may keep an answer.
const KEPT: Duration = Duration::from_secs(600);

/// What those pages may read of an answer, beside what all may.
const EXPOSED: [HeaderName; 7] = [
    header::ALLOW,
    header::CONTENT_DISPOSITION,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-idempotent-replay"),
    REQUEST_ID,
];

/// An `OPTIONS` request that is for a route.
#[derive(Clone)]
struct ForRoute;

/// Answers what browsers ask, before anybody asks who it is. An `OPTIONS` request that asks nothing of this is for a route, and its
/// answer is read like others.
///
/// # Errors
/// [`Error::Config`] when a setting is no origin, method or header.
pub(crate) fn open(router: Router, config: &Config) -> Result<Router> {
    if config.allow_origins.is_empty() {
        return Ok(router);
    }
    let open = layer(config)?.layer(router.map_request(|mut request: Request| {
        if request.extensions_mut().remove::<ForRoute>().is_some() {
            *request.method_mut() = Method::OPTIONS;
        }
        request
    }));
    Ok(Router::new().fallback(move |mut request: Request| {
        let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method() == Method::OPTIONS && !asks {
            // Of every OPTIONS request the layer thinks that it is asked.
            *request.method_mut() = Method::GET;
            request.extensions_mut().insert(ForRoute);
        }
        open.clone().oneshot(request)
    }))
}

/// `*` gives back what was asked for: with credentials browsers take no other answer for "all".
fn layer(config: &Config) -> Result<CorsLayer> {
    let origins = match named(&config.allow_origins, |text| HeaderValue::from_str(text).ok())? {
        Some(origins) => AllowOrigin::list(origins),
        None => AllowOrigin::mirror_request(),
    };
    let method = |text: &str| Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok();
    let methods = match named(&config.allow_methods, method)? {
        Some(methods) => AllowMethods::list(methods),
        None => AllowMethods::mirror_request(),
    };
    let headers = match named(&config.allow_headers, |text| text.parse().ok())? {
        Some(headers) => AllowHeaders::list::<Vec<HeaderName>>(headers),
        None => AllowHeaders::mirror_request(),
    };
    Ok(CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(methods)
        .allow_headers(headers)
        .allow_credentials(true)
        .expose_headers(EXPOSED)
        .max_age(KEPT))
}

/// What the texts of a setting name; none when all is allowed.
fn named<T>(texts: &[String], parse: impl Fn(&str) -> Option<T>) -> Result<Option<Vec<T>>> {
    if texts.iter().any(|text| text == "*") {
        return Ok(None);
    }
    let parse = |text: &String| {
        parse(text).ok_or_else(|| Error::Config(format!("{text:?} is no origin, method or header")))
    };
    texts.iter().map(parse).collect::<Result<_>>().map(Some)
}
