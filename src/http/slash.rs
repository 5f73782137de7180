//! Paths that are those of a route but for a slash at their end: the client is sent there.

use axum::http::{HeaderValue, Uri};

/// The paths of all routes.
pub(crate) struct Paths(matchit::Router<()>);

impl Paths {
    /// Of routes that the router has taken.
    pub(crate) fn of(routes: impl IntoIterator<Item = String>) -> Self {
        let mut paths = matchit::Router::new();
        for route in routes {
            if let Err(error) = paths.insert(route, ()) {
                tracing::warn!(%error, "a path is not found with a slash at its end");
            }
        }
        Self(paths)
    }

    /// Where the route is, with the query as it came; none when there is no such route.
    ///
    /// What a route begins with is a slash and a word, so this names no other host.
    pub(crate) fn without_slash(&self, uri: &Uri) -> Option<HeaderValue> {
        let path = uri.path().strip_suffix('/')?;
        self.0.at(path).ok()?;
        let location = match uri.query() {
            Some(query) => HeaderValue::try_from(format!("{path}?{query}")),
            None => HeaderValue::from_str(path),
        };
        location.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slash_is_left_out() {
        let routes = ["/walkers", "/walker/{id}", "/walker/{id}/{node}", "/things/{1}"];
        let paths = Paths::of(routes.map(str::to_owned));
        let found = |uri: &str| {
            let location = paths.without_slash(&uri.parse().unwrap())?;
            Some(location.to_str().unwrap().to_owned())
        };
        for (uri, wanted) in [
            ("/walkers/", "/walkers"),
            ("/walkers/?a=%20&b=/x/", "/walkers?a=%20&b=/x/"),
            ("/walker/w:a:1/", "/walker/w:a:1"),
            ("/things/%2f%2fevil.com/", "/things/%2f%2fevil.com"),
            ("/walker//evil.com/", "/walker//evil.com"),
            ("http://evil.com/walkers/", "/walkers"),
        ] {
            assert_eq!(found(uri).as_deref(), Some(wanted), "{uri}");
        }
        for uri in [
            "/",
            "//",
            "/walkers",
            "/walkers//",
            "//walkers/",
            "//evil.com/",
            "///evil.com/",
            "//evil.com/walkers/",
            "//evil.com/walker/x/",
            "/%2fevil.com/",
            "/%5cevil.com/",
            "/nothing/",
        ] {
            assert_eq!(found(uri), None, "{uri}");
        }
    }
}
