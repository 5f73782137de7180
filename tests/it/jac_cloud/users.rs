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
    send_verification_code "POST `/send-verification-code`" |app| {
        let ann = app.user().await;
        let send = async || ann.post("/user/send-verification-code", &json!({})).await;
        assert_eq!(send().await, (200, json!({ "message": "Successfully sent verification code!" })));
        let codes = app.codes(ann.user["email"].as_str().unwrap(), 2).await;
        assert_eq!(app.nobody().post("/user/verify", &json!({ "code": codes[1] })).await.0, 200);
        assert_eq!(send().await, (400, json!({ "message": "Account is already verified!" })));
    }
    verify "POST `/verify`" |app| {
        let ann = app.user().await;
        let codes = app.codes(ann.user["email"].as_str().unwrap(), 1).await;
        let verify = async || app.nobody().post("/user/verify", &json!({ "code": codes[0] })).await;
        assert_eq!(verify().await, (200, json!({ "message": "Successfully Verified!" })));
        assert_eq!(verify().await, (403, json!({ "message": "Verification Failed!" })));
    }
    forgot_password "POST `/forgot_password`" "the same for an unknown address; 403 where no mail is sent" |app| {
        let ann = app.user().await;
        for email in [&ann.user["email"], &json!("nobody@example.com")] {
            let answer = app.nobody().post("/user/forgot_password", &json!({ "email": email })).await;
            assert_eq!(answer, (200, json!({ "message": "Reset password email sent!" })));
        }
    }
    reset_password "POST `/reset_password`" |app| {
        let ann = app.user().await;
        let email = &ann.user["email"];
        let codes = app.codes(email.as_str().unwrap(), 1).await;
        let reset = async |code: &str| {
            app.nobody().post("/user/reset_password", &json!({ "code": code, "password": "battery staple" })).await
        };
        let failed = (403, json!({ "message": "Failed to reset password!" }));
        assert_eq!(reset(&codes[0]).await, failed, "it is to verify the address");
        assert_eq!(app.nobody().post("/user/forgot_password", &json!({ "email": email })).await.0, 200);
        let codes = app.codes(email.as_str().unwrap(), 2).await;
        assert_eq!(reset(&codes[1]).await, (200, json!({ "message": "Password reset successfully!" })));
        assert_eq!(reset(&codes[1]).await, failed);
        assert_eq!(ann.get("/walkers").await.0, 401, "all tokens are revoked");
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
