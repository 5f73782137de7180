//! Providers of single sign-on, as several places say them.

use super::*;

#[test]
fn providers_as_the_file_has_them() {
    let said = Said::new()
        .file("[sso.google]\nclient_id = 'a'\n[sso.own]\nissuer = 'https://own.example'\nclient_id = 'b'\nscopes = ['mail']\n")
        .variable("WALKABOUT_SSO", "{ own = { client_secret = 'hush' } }")
        .variable("SSO_GOOGLE_CLIENT_SECRET", "hush")
        .variable("SSO_GITLAB_CLIENT_ID", "c")
        .variable("SSO_GITLAB_BASE_ENDPOINT_URL", "http://127.0.0.1:1")
        .variable("SSO_GITLAB_ALLOW_INSECURE_HTTP", "true")
        .variable("SSO_GITHUB_CLIENT_ID", "d")
        .variable("SSO_HOST", "https://api.example/sso");
    let settled = said.settle().unwrap();
    let Config { sso, sso_host, .. } = &settled.config;
    assert_eq!(sso.keys().collect::<Vec<_>>(), ["gitlab", "google", "own"]);
    let (gitlab, google, own) = (&sso["gitlab"], &sso["google"], &sso["own"]);
    assert_eq!((google.client_id.as_str(), google.client_secret.as_deref()), ("a", Some("hush")));
    assert_eq!((own.client_id.as_str(), own.client_secret.as_deref()), ("b", Some("hush")));
    assert_eq!(
        (own.issuer.as_deref(), &own.scopes[..]),
        (Some("https://own.example"), &["mail".to_owned()][..])
    );
    assert_eq!((gitlab.issuer.as_deref(), gitlab.allow_insecure_http), (Some("http://127.0.0.1:1"), true));
    assert_eq!(sso_host, "https://api.example/sso");
    assert!(settled.warnings[0].starts_with("SSO_GITHUB_CLIENT_ID is ignored"), "{:?}", settled.warnings);
    let shown = settled.to_string();
    assert!(!shown.contains("hush") && !format!("{settled:?}").contains("hush"), "{shown}");
    assert!(shown.contains("google = { client_id = \"a\", client_secret = \"***\" }"), "{shown}");
}

#[test]
fn who_serves_others_says_where_browsers_come_back() {
    let warnings = |file: &str| {
        let said = Said::new().file("listen = '0.0.0.0:1'\n").file(file);
        said.variable("SSO_GOOGLE_CLIENT_ID", "a").settle().unwrap().warnings
    };
    let told = "sso_host is not set: providers send browsers back to http://localhost:8000/sso";
    assert_eq!(warnings(""), [told]);
    assert!(warnings("sso_host = 'http://localhost:8000/sso'").is_empty());
    assert!(Said::new().variable("SSO_GOOGLE_CLIENT_ID", "a").settle().unwrap().warnings.is_empty());
}

#[test]
fn providers_that_do_not_fit() {
    for (text, wanted) in [
        (
            "sso = 5",
            "settings.toml:1: sso is \"***\", and should be tables by the names of providers, in TOML",
        ),
        ("\n[sso.google]", "settings.toml:2: sso.google has no client_id"),
        (
            "[sso.google]\nclientid = 'a'\n[sso.Own]\nissuer = 5\n\n[sso.gitlab]",
            "settings.toml:3: sso has the provider \"Own\", which should be 1 to 40 lower-case letters, digits, '-' and '_'\n\
            settings.toml:3: sso has Own.issuer, which should be a text\n\
            settings.toml:1: sso has google.clientid, which is none of issuer, client_id, client_secret, tenant, scopes, trust_email, allow_insecure_http",
        ),
        (
            "[sso.Google]\nclient_id = 'a'",
            "settings.toml:1: sso has the provider \"Google\", which should be 1 to 40 lower-case letters, digits, '-' and '_'",
        ),
        ("[sso]\ngoogle = 'a'", "settings.toml:2: sso has google, which should be a table"),
        ("[sso.google]\nclient_id = 5", "settings.toml:1: sso has google.client_id, which should be a text"),
        (
            "[sso.google]\nclientid = 'a'",
            "settings.toml:1: sso has google.clientid, which is none of issuer, client_id, client_secret, tenant, scopes, trust_email, allow_insecure_http",
        ),
        (
            "[sso.github]\nclient_id = 'a'",
            "settings.toml:1: sso.github has no issuer, which is known beforehand for apple, gitlab, google, kakao, microsoft alone",
        ),
    ] {
        assert_eq!(Said::new().file(text).faults(), wanted, "{text}");
    }
    let both = Said::new()
        .file("[sso.own]\nclient_id = 'a'\n[sso.google]\nscopes = []")
        .variable("SSO_APPLE_CLIENT_SECRET", "hush");
    let both = both.variable("SSO_GOOGLE_CLIENT_SECRET", "hush").faults();
    let wanted = [
        "SSO_APPLE_CLIENT_SECRET: sso.apple has no client_id",
        "settings.toml:3 and SSO_GOOGLE_CLIENT_SECRET: sso.google has no client_id",
        "settings.toml:1: sso.own has no issuer, which is known beforehand for apple, gitlab, google, kakao, microsoft alone",
    ];
    assert_eq!(both.lines().collect::<Vec<_>>(), wanted);
    let broken = Said::new().variable("WALKABOUT_SSO", "{ own = 'hush' ").faults();
    assert_eq!(broken, "WALKABOUT_SSO is \"***\", and should be tables by the names of providers, in TOML");
}
