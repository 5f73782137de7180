//! The routes of §5.2.

use serde_json::json;

use super::{app::detail, rows};
use crate::support::told;

rows! { "5.2 users";
    register "POST `/register`" |app| {
        let nobody = app.nobody();
        let ann = json!({ "email": "Ann@Example.COM", "password": "correct horse" });
        let answer = nobody.post("/user/register", &ann).await;
        assert_eq!(answer, (201, json!({ "message": "Successfully Registered!" })));
        let again = json!({ "email": "Ann@example.com", "password": "another" });
        assert_eq!(nobody.post("/user/register", &again).await, (409, detail(json!("Already Exists!"))));
        let other = json!({ "email": "ann@example.com", "password": "another" });
        assert_eq!(nobody.post("/user/register", &other).await.0, 201, "the local part is told apart by its case");
        let bad = json!({ "email": "ann@nowhere.test" });
        assert_eq!(told(&nobody.post("/user/register", &bad).await), ["value_error body.email", "missing body.password"]);
    }
    login "POST `/login`" |app| {
        let ann = app.user().await;
        let user = ann.user.as_object().unwrap();
        for member in ["id", "email", "root_id", "is_activated", "is_admin", "expiration", "state"] {
            assert!(user.contains_key(member), "{user:?}");
        }
        assert!(!user.contains_key("password"));
        let is_bare = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_bare(user["id"].as_str().unwrap()) && is_bare(user["root_id"].as_str().unwrap()));
        let wrong = json!({ "email": user["email"], "password": "wrong" });
        let answer = ann.post("/user/login", &wrong).await;
        assert_eq!(answer, (400, json!({ "message": "Invalid Email/Password!" })));
    }
    change_password "POST `/change_password`" |app| {
        let ann = app.user().await;
        let change = async |old: &str| {
            ann.post("/user/change_password", &json!({ "old_password": old, "new_password": "battery staple" })).await
        };
        assert_eq!(change("wrong").await, (403, json!({ "message": "Update Failed!" })));
        assert_eq!(change("correct horse").await, (200, json!({ "message": "Successfully Updated!" })));
        assert_eq!(change("battery staple").await.0, 401, "all tokens are revoked");
    }
}
