//! Single sign-on, where no provider is set up. `tests/it/sso.rs` has one.

use reqwest::Method;
use serde_json::{Value, json};

fn none() -> (u16, Value) {
    (501, json!({ "message": "Feature not yet implemented!" }))
}

super::rows! {
    "5.3 SSO";
    begin "GET `/{platform}/{operation}`" "`redirect_uri` is one of the settings, the state is the server's, and of other parameters a few are passed on" |app| {
        for path in ["/sso/google/login", "/sso/github/register", "/sso/google/other"] {
            assert_eq!(app.nobody().get(path).await, none(), "{path}");
        }
    }
    callback "GET `/{platform}/{operation}/callback`" "only for the browser that began; no `id_token` in the query; `register` gives an identity to a user who is there only when both sides know the address to be the user's; `attach` answers a `proof` as well" |app| {
        for operation in ["login", "register", "attach", "other"] {
            assert_eq!(app.nobody().get(&format!("/sso/google/{operation}/callback?code=a")).await, none());
        }
    }
    attach "POST `/attach`" "needs the `proof` that the callback gave" |app| {
        let body = json!({ "platform": "google", "id": "1", "email": "a@example.com", "proof": "" });
        assert_eq!(app.user().await.post("/sso/attach", &body).await, none());
        assert_eq!(app.nobody().post("/sso/attach", &body).await.0, 403);
    }
    detach "DELETE `/detach`" "not the only way in of a user without a password" |app| {
        let detach = |client: &crate::support::Client| client.request(Method::DELETE, "/sso/detach");
        let (user, body) = (app.user().await, json!({ "platform": "google" }));
        assert_eq!(user.send(detach(&user).json(&body)).await, none());
        assert_eq!(user.send(detach(&app.nobody()).json(&body)).await.0, 403);
    }
}
