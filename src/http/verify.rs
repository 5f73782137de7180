//! What a user does with the codes that come by mail: verifies an address, or sets a password that was forgotten.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Server, email, extract, letters,
    openapi::{Describe, Refused, Types},
    problem::{Refusal, answer},
    shapes::Message,
    users::{PASSWORD_MAX, TAG, address, both, members, of_login, password_schema, secret},
};
use crate::mail::Purpose;

fn done(message: &str) -> Response {
    answer(StatusCode::OK, &json!({ "message": message }))
}

/// `POST /user/send-verification-code`: waits until the mail server has it.
pub(crate) async fn send_code(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (_, login) = extract::login(&server, &headers).await?;
    let user = of_login(&server, &login).await?;
    if user.is_activated {
        return Err(Refusal::AlreadyVerified);
    }
    if !server.users.letters.take(&user.email, Purpose::Verify, server.runtime.now()) {
        return Err(Refusal::TooManyMails);
    }
    letters::write(&server, &user, Purpose::Verify).await?;
    Ok(done("Successfully sent verification code!"))
}

/// `POST /user/verify`.
pub(crate) async fn verify(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Refusal> {
    const FAILED: Refusal = Refusal::NotDone("Verification Failed!");
    let (parts, body) = request.into_parts();
    let mut members = members(&server, &parts.headers, body).await?;
    let code = secret(&mut members, "code").map_err(|detail| Refusal::detail(*detail))?;
    let user = server.codes.user(&server.runtime, &code, Purpose::Verify).await?.ok_or(FAILED)?;
    let verified = server.runtime.change_user(&user.email, |stored| {
        let is_open = stored.id == user.id && !stored.is_activated;
        (stored.is_activated, stored.is_verified) = (true, true);
        is_open
    });
    if verified.await? { Ok(done("Successfully Verified!")) } else { Err(FAILED) }
}

/// `POST /user/forgot_password`. An unknown address takes the same time and gives the same answer as a known one: the letter, if any, is
/// written afterwards.
pub(crate) async fn forgot_password(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let mut members = members(&server, &parts.headers, body).await?;
    let email = address(&mut members).map_err(|detail| Refusal::detail(*detail))?;
    if server.runtime.mailer().is_none() {
        return Err(Refusal::NotDone("Failed to process forgot password!"));
    }
    server.outbox.post(&server, email, Purpose::Reset)?;
    Ok(done("Reset password email sent!"))
}

/// `POST /user/reset_password`: ends all logins of the user, whose address is verified by it as well.
pub(crate) async fn reset_password(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<Response, Refusal> {
    const FAILED: Refusal = Refusal::NotDone("Failed to reset password!");
    let (parts, body) = request.into_parts();
    let mut members = members(&server, &parts.headers, body).await?;
    let (code, password) = both(secret(&mut members, "code"), secret(&mut members, "password"))?;
    let user = server.codes.user(&server.runtime, &code, Purpose::Reset).await?.ok_or(FAILED)?;
    let hash = server.users.hash(&server.runtime, password).await?;
    let set = server.runtime.change_user(&user.email, |stored| {
        let is_same = stored.id == user.id && stored.password == user.password;
        stored.password.clone_from(&hash);
        stored.sessions.clear();
        // Until now somebody else may have had the account, who only knew the address, and could come back by these.
        if !stored.is_verified {
            stored.sso.clear();
            stored.webhook_keys.clear();
        }
        (stored.is_activated, stored.is_verified) = (true, true);
        is_same
    });
    let is_set = set.await?;
    server.tokens.forget_user(&user);
    if !is_set {
        return Err(FAILED);
    }
    server.users.failures.forget(&user.email);
    Ok(done("Password reset successfully!"))
}

/// How `POST /user/send-verification-code` is documented.
pub(crate) fn describe_send_code(types: &mut Types) -> Describe {
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Ask for a code that verifies the address")
        .login()
        .answers(200, "It is on its way.", message.clone())
        .answers(400, "The address is verified already.", message)
        .refuses(&[Refused::TooMany])
        .writes()
}

/// How `POST /user/verify` is documented.
pub(crate) fn describe_verify(types: &mut Types) -> Describe {
    let body = json!({ "type": "object", "properties": { "code": code_schema() }, "required": ["code"] });
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Verify the address")
        .body(body, true)
        .answers(200, "It is verified.", message.clone())
        .answers(403, "The code is not good.", message)
        .writes()
}

/// How `POST /user/forgot_password` is documented.
pub(crate) fn describe_forgot_password(types: &mut Types) -> Describe {
    let properties = json!({ "email": email::schema() });
    let body = json!({ "type": "object", "properties": properties, "required": ["email"] });
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Ask for a code that sets a password")
        .about("The answer is the same for every address.")
        .body(body, true)
        .answers(200, "It is on its way, if there is such a user.", message.clone())
        .answers(403, "This server sends no mail.", message)
        .writes()
}

/// How `POST /user/reset_password` is documented.
pub(crate) fn describe_reset_password(types: &mut Types) -> Describe {
    let properties = json!({ "code": code_schema(), "password": password_schema() });
    let body = json!({ "type": "object", "properties": properties, "required": ["code", "password"] });
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Set a password")
        .about(
            "Ends all logins of the user. Of an address that was not verified before it takes identities and webhook keys too.",
        )
        .body(body, true)
        .answers(200, "It is set.", message.clone())
        .answers(403, "The code is not good.", message)
        .writes()
}

/// A code as it comes by mail.
fn code_schema() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": PASSWORD_MAX })
}
