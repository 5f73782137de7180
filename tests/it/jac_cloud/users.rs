//! The routes of §5.2.

use serde_json::json;

use super::{
    app::{App, detail},
    rows,
};
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
        let bad = json!({ "email": "ann@nowhere.test", "nickname": 1 });
        let wrong = ["value_error body.email", "missing body.password", "string_type body.nickname"];
        assert_eq!(told(&nobody.post("/user/register", &bad).await), wrong, "fields of the user model as well");
        let eve = json!({ "email": "eve@example.com", "password": "correct horse", "nickname": "Eve" });
        assert_eq!(nobody.post("/user/register", &eve).await.0, 201);
        let mut client = app.nobody();
        client.login("eve@example.com").await;
        assert_eq!((&client.user["nickname"], &client.user["is_activated"]), (&json!("Eve"), &json!(false)));
        let without_mail = App::start_with(|config| config.mail_url = None).await;
        assert_eq!(without_mail.user().await.user["is_activated"], true);
        for (email, status) in [("ann@nowhere", 422), ("ann@printer.local", 422), ("ann@b.invalid", 422), ("ann@localhost", 422), ("eve@mail.example.com", 201)] {
            let body = json!({ "email": email, "password": "correct horse" });
            assert_eq!(nobody.post("/user/register", &body).await.0, status, "{email}");
        }
    }
    login "POST `/login`" |app| {
        let ann = app.user().await;
        let user = ann.user.as_object().unwrap();
        let members: Vec<_> = user.keys().map(String::as_str).collect();
        assert_eq!(members, ["id", "email", "root_id", "is_activated", "is_admin", "expiration", "state", "nickname"]);
        let is_bare = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_bare(user["id"].as_str().unwrap()) && is_bare(user["root_id"].as_str().unwrap()));
        let wrong = json!({ "email": user["email"], "password": "wrong" });
        let answer = ann.post("/user/login", &wrong).await;
        assert_eq!(answer, (400, json!({ "message": "Invalid Email/Password!" })));
        let unknown = json!({ "email": "nobody@example.com", "password": "correct horse" });
        assert_eq!(ann.post("/user/login", &unknown).await, answer);
        let right = json!({ "email": user["email"], "password": "correct horse" });
        let (status, answer) = ann.post("/user/login", &right).await;
        let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((status, members), (200, vec!["token", "user"]));

        let app = App::start_with(|config| config.restrict_unverified_user = true).await;
        let ben = json!({ "email": "ben@example.com", "password": "correct horse" });
        assert_eq!(app.nobody().post("/user/register", &ben).await.0, 201);
        let unverified = "Account not yet verified! Resending verification code...";
        assert_eq!(app.nobody().post("/user/login", &ben).await, (400, detail(json!(unverified))));
        app.codes("ben@example.com", 2).await;
    }
    send_verification_code "POST `/send-verification-code`" |app| {
        let ann = app.user().await;
        let send = async || ann.post("/user/send-verification-code", &json!({})).await;
        assert_eq!(send().await, (200, json!({ "message": "Successfully sent verification code!" })));
        let codes = app.codes(ann.user["email"].as_str().unwrap(), 2).await;
        assert_eq!(app.nobody().post("/user/verify", &json!({ "code": codes[1] })).await.0, 200);
        assert_eq!(send().await, (400, json!({ "message": "Account is already verified!" })));
        let answer = app.nobody().post("/user/send-verification-code", &json!({})).await;
        assert_eq!(answer, (403, detail(json!("Not authenticated"))));
    }
    verify "POST `/verify`" |app| {
        let ann = app.user().await;
        let codes = app.codes(ann.user["email"].as_str().unwrap(), 1).await;
        let verify = async |code: &str| app.nobody().post("/user/verify", &json!({ "code": code })).await;
        let failed = (403, json!({ "message": "Verification Failed!" }));
        assert_eq!(verify("none").await, failed);
        assert_eq!(ann.user["is_activated"], false);
        assert_eq!(verify(&codes[0]).await, (200, json!({ "message": "Successfully Verified!" })));
        assert_eq!(verify(&codes[0]).await, failed, "it is good once");
        let mut ann = ann;
        let email = ann.user["email"].as_str().unwrap().to_owned();
        ann.login(&email).await;
        assert_eq!(ann.user["is_activated"], true);
    }
    forgot_password "POST `/forgot_password`" "the same for an unknown address; 403 where no mail is sent" |app| {
        let ann = app.user().await;
        for email in [&ann.user["email"], &json!("nobody@example.com")] {
            let answer = app.nobody().post("/user/forgot_password", &json!({ "email": email })).await;
            assert_eq!(answer, (200, json!({ "message": "Reset password email sent!" })));
        }
        let app = App::start_with(|config| config.mail_url = None).await;
        let email = app.user().await.user["email"].clone();
        let answer = app.nobody().post("/user/forgot_password", &json!({ "email": email })).await;
        assert_eq!(answer, (403, json!({ "message": "Failed to process forgot password!" })));
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
        let verified = app.nobody().post("/user/verify", &json!({ "code": codes[1] })).await;
        assert_eq!(verified, (403, json!({ "message": "Verification Failed!" })), "nor is this one for that");
        assert_eq!(reset(&codes[1]).await, (200, json!({ "message": "Password reset successfully!" })));
        assert_eq!(reset(&codes[1]).await, failed);
        assert_eq!(ann.get("/walkers").await.0, 401, "all tokens are revoked");
        let login = json!({ "email": email, "password": "battery staple" });
        let (status, answer) = app.nobody().post("/user/login", &login).await;
        assert_eq!((status, &answer["user"]["is_activated"]), (200, &json!(true)), "it verifies the address");
    }
    change_password "POST `/change_password`" |app| {
        let ann = app.user().await;
        let change = async |old: &str| {
            ann.post("/user/change_password", &json!({ "old_password": old, "new_password": "battery staple" })).await
        };
        assert_eq!(change("wrong").await, (403, json!({ "message": "Update Failed!" })));
        assert_eq!(change("correct horse").await, (200, json!({ "message": "Successfully Updated!" })));
        assert_eq!(change("battery staple").await, (401, detail(json!("Unauthorized"))), "all tokens are revoked");
    }
}
