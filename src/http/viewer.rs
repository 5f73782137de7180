//! The API documents as they are served, and a page to read and try them: Swagger UI, out of this program and nothing from elsewhere.

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::Value;
use swagger_ui_redist::{SwaggerUi, SwaggerUiStaticFile};

use super::problem::Refusal;

/// What the page may do: run and show what comes from here, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How long a browser may keep the files of the viewer.
const KEPT: &str = "max-age=3600";

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="viewer"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

/// All addresses are relative to the page's, so that it works below another path as well.
const START: &str = r##""use strict";
fetch("openapi.json").then((answer) => answer.json()).then((spec) => {
    document.title = spec.info.title;
    spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
    SwaggerUIBundle({ spec, dom_id: "#viewer", deepLinking: true, validatorUrl: null });
});
"##;

/// A document as it is sent.
#[derive(Clone)]
pub(crate) struct Document {
    bytes: Bytes,
    media: &'static str,
}

impl Document {
    /// As JSON.
    pub(crate) fn json(document: &Value) -> Self {
        Self { bytes: document.to_string().into(), media: "application/json" }
    }

    /// As YAML.
    pub(crate) fn yaml(document: &Value) -> Self {
        let text = yaml_serde::to_string(document).unwrap_or_else(|error| {
            // JSON is YAML as well.
            tracing::error!(%error, "a document cannot be written as YAML");
            document.to_string()
        });
        Self { bytes: text.into(), media: "text/yaml; charset=utf-8" }
    }

    /// The answer to who asks for it.
    pub(crate) fn answer(&self) -> Response {
        let mut response = Response::new(Body::from(self.bytes.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        response
    }
}

/// `GET /docs`.
pub(crate) async fn page() -> Response {
    let mut response = sent(PAGE.as_bytes(), "text/html; charset=utf-8", "no-cache");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    response
}

/// `GET /docs/{file}`.
pub(crate) fn file(name: &str) -> Result<Response, Refusal> {
    if name == "start.js" {
        return Ok(sent(START.as_bytes(), "text/javascript; charset=utf-8", "no-cache"));
    }
    let files = SwaggerUi::static_files().iter();
    let mut served = files.filter(|(file, _)| media(*file).is_some());
    let (file, bytes) = served.find(|(file, _)| file.file_name() == name).ok_or(Refusal::NotFound)?;
    Ok(sent(bytes, media(*file).ok_or(Refusal::NotFound)?, KEPT))
}

/// The media type of a file that the page needs.
fn media(file: SwaggerUiStaticFile) -> Option<&'static str> {
    match file {
        SwaggerUiStaticFile::Css => Some("text/css; charset=utf-8"),
        SwaggerUiStaticFile::Js => Some("text/javascript; charset=utf-8"),
        SwaggerUiStaticFile::Favicon32 => Some("image/png"),
        _ => None,
    }
}

/// `GET /redoc`: there is one viewer.
pub(crate) async fn elsewhere() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("docs"));
    response
}

fn sent(bytes: &'static [u8], media: &'static str, kept: &'static str) -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(bytes)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
