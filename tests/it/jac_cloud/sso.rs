//! Single sign-on, §5.3, with a provider. `tests/it/sso.rs` has all that it may do wrong.

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::app::{App, detail};
use crate::{sso::Browser, support::Client};

fn message(text: &str) -> Value {
    json!({ "message": text })
}

fn none() -> (u16, Value) {
    (501, message("Feature not yet implemented!"))
}

fn updated() -> (u16, Value) {
    (200, message("Successfully Updated SSO!"))
}

/// The whole way to the provider and back.
async fn sign_in(app: &App, operation: &str) -> (u16, Value) {
    app.browser().sign_in("home", operation).await
}

/// The user of an answer to a sign-in, which is that of a login.
fn user_of((status, answer): (u16, Value)) -> Value {
    let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((status, members), (200, vec!["token", "user"]), "{answer}");
    let members: Vec<_> = answer["user"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["id", "email", "root_id", "is_activated", "is_admin", "expiration", "state", "nickname"]
    );
    answer["user"].clone()
}

/// What the callback of `attach` answers, in the words of the provider's claims, with the password of who attaches it.
async fn shown(app: &App, id: &str, email: &str) -> Value {
    let (status, mut shown) = sign_in(app, "attach").await;
    let proof = &shown["proof"];
    let wanted = json!({ "platform": "home", "id": id, "email": email, "proof": proof, "expires_in": 600 });
    assert_eq!((status, &shown), (200, &wanted));
    shown["password"] = json!("correct horse");
    shown
}

async fn let_go(client: &Client, platform: &str) -> (u16, Value) {
    client.send(client.request(Method::DELETE, "/sso/detach").json(&json!({ "platform": platform }))).await
}

super::rows! {
    "5.3 SSO";
    begin "GET `/{platform}/{operation}`" "`redirect_uri` is one of the settings, the state is the server's, and of other parameters a few are passed on" |app| {
        for path in ["/sso/google/login", "/sso/github/register", "/sso/google/other", "/sso/home/other"] {
            assert_eq!(app.nobody().get(path).await, none(), "{path}");
        }
        for operation in ["login", "register", "attach"] {
            let path = format!("{}/sso/home/{operation}?state=mine&prompt=login&scope=all", app.url);
            let there = app.browser().see(&path).await;
            assert_eq!((there.status, there.headers[header::CACHE_CONTROL].to_str().unwrap()), (303, "no-store"));
            let (place, query) = there.location.split_once('?').unwrap();
            assert_eq!(place, format!("{}/authorize", app.provider.issuer("home")));
            let back = format!("redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Fsso%2Fhome%2F{operation}%2Fcallback");
            let has = |part: &str| query.split('&').any(|other| other == part);
            assert!(has(&back) && has("prompt=login") && !has("state=mine") && !has("scope=all"), "{query}");
        }
        let elsewhere = app.browser().see(&format!("{}/sso/home/login?redirect_uri=https://evil.example", app.url)).await;
        assert_eq!((elsewhere.status, &elsewhere.body["detail"][0]["loc"]), (422, &json!(["query", "redirect_uri"])));
        let app = App::start_with(|config| config.sso_redirects = vec!["https://app.example.com/done".to_owned()]).await;
        let own = app.browser().go("/sso/home/login?redirect_uri=https://app.example.com/done").await;
        assert!(own.starts_with("https://app.example.com/done?code="), "{own}");
    }
    callback_login "GET `/{platform}/login/callback`" "only for the browser that began; no `id_token` in the query" |app| {
        for path in ["/sso/google/login/callback?code=a", "/sso/home/other/callback?code=a"] {
            assert_eq!(app.nobody().get(path).await, none(), "{path}");
        }
        assert_eq!(sign_in(&app, "login").await, (403, message("Not Existing!")));
        let user = user_of(sign_in(&app, "register").await);
        assert_eq!(user_of(sign_in(&app, "login").await)["id"], user["id"]);
        let again = (403, message("Sign-in failed. Begin again."));
        let mut browser = app.browser();
        let back = browser.go("/sso/home/login").await;
        let other = app.browser().see(&back).await;
        assert_eq!((other.status, other.body), again, "another browser");
        assert_eq!(app.nobody().get("/sso/home/login/callback?id_token=a.b.c").await, again);
        assert_eq!(user_of({ let seen = browser.see(&back).await; (seen.status, seen.body) })["id"], user["id"]);
        app.provider.is("1", "ann@example.com", Some(false));
        let unverified = (403, message("The provider does not say that the address is yours."));
        assert_eq!(sign_in(&app, "login").await, unverified);
    }
    callback_login_unverified "GET `/{platform}/login/callback` of an account that is not verified" |app| {
        drop(app);
        let app = App::start_with(|config| config.restrict_unverified_user = true).await;
        // What a provider vouches for is verified, so an identity is attached first.
        let account = json!({ "email": "user@example.com", "password": "correct horse" });
        assert_eq!(app.nobody().post("/user/register", &account).await.0, 201);
        let codes = app.codes("user@example.com", 1).await;
        assert_eq!(app.nobody().post("/user/verify", &json!({ "code": codes[0] })).await.0, 200);
        let mut user = app.nobody();
        user.login("user@example.com").await;
        let shown = shown(&app, "1", "ann@example.com").await;
        assert_eq!(user.post("/sso/attach", &shown).await, updated());
        assert_eq!(user_of(sign_in(&app, "login").await)["id"], user.user["id"]);
        app.unverify("user@example.com").await;
        let unverified = "Account not yet verified! Resending verification code...";
        assert_eq!(sign_in(&app, "login").await, (400, detail(json!(unverified))));
    }
    callback_register "GET `/{platform}/register/callback`" "gives an identity to a user who is there only when both sides know the address to be the user's; else 409" |app| {
        let made = user_of(sign_in(&app, "register").await);
        assert_eq!((&made["email"], &made["is_activated"]), (&json!("ann@example.com"), &json!(true)));
        assert_eq!(user_of(sign_in(&app, "register").await)["id"], made["id"], "an existing user");
        // An account of the same address is attached to, once its address is verified.
        let ben = app.user().await;
        let email = ben.user["email"].as_str().unwrap();
        app.provider.is("2", email, Some(true));
        assert_eq!(sign_in(&app, "register").await, (409, detail(json!("Already Exists!"))));
        let codes = app.codes(email, 1).await;
        assert_eq!(app.nobody().post("/user/verify", &json!({ "code": codes[0] })).await.0, 200);
        assert_eq!(user_of(sign_in(&app, "register").await)["id"], ben.user["id"]);
        app.provider.is("3", "eve@example.com", None);
        assert_eq!(sign_in(&app, "register").await.0, 403, "an address that is not verified");
    }
    callback_attach "GET `/{platform}/attach/callback`" "answers a `proof` as well, and how long it is good" |app| {
        shown(&app, "1", "ann@example.com").await;
        user_of(sign_in(&app, "register").await);
        assert_eq!(sign_in(&app, "attach").await, (403, message("Already Attached!")));
    }
    attach "POST `/attach`" "needs the `proof` that the callback gave, and the password of who asks" |app| {
        let (ann, ben) = (app.user().await, app.user().await);
        let shown = shown(&app, "1", "ann@example.com").await;
        let mut made_up = shown.clone();
        made_up["proof"] = json!("");
        assert_eq!(ann.post("/sso/attach", &made_up).await, (403, message("Sign-in failed. Begin again.")));
        assert_eq!(ann.post("/sso/attach", &shown).await, updated());
        assert_eq!(user_of(sign_in(&app, "login").await)["id"], ann.user["id"]);
        assert_eq!(ben.post("/sso/attach", &shown).await, (403, message("Already Attached!")));
        let mut other = shown.clone();
        other["platform"] = json!("google");
        assert_eq!(ann.post("/sso/attach", &other).await, none());
        assert_eq!(app.nobody().post("/sso/attach", &shown).await, (403, detail(json!("Not authenticated"))));
    }
    detach "DELETE `/detach`" "not the only way in of a user without a password" |app| {
        let ann = app.user().await;
        let shown = shown(&app, "1", "ann@example.com").await;
        assert_eq!(ann.post("/sso/attach", &shown).await, updated());
        assert_eq!(let_go(&ann, "home").await, updated());
        assert_eq!(sign_in(&app, "login").await, (403, message("Not Existing!")));
        assert_eq!(let_go(&ann, "google").await, none());
        assert_eq!(let_go(&app.nobody(), "home").await, (403, detail(json!("Not authenticated"))));
        let mut browser: Browser = app.browser();
        let (_, answer) = browser.sign_in("home", "register").await;
        let eve = Client { token: answer["token"].as_str().map(str::to_owned), ..app.nobody() };
        let only = "The account has no password, so this is its only way in.";
        assert_eq!(let_go(&eve, "home").await, (403, message(only)));
    }
}
