//! `DELETE /user`: a user goes, or is sent away by an administrator.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::json;

use super::{
    Server, email, extract,
    openapi::{Describe, Refused, Types},
    problem::{Refusal, answer},
    shapes::Message,
    users::{TAG, address, both, password_schema, prove, secret},
};
use crate::users::Removed;

/// `DELETE /user`: whoever asks, or the user whom an administrator names. The password is that of who asks.
pub(crate) async fn delete(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Refusal> {
    const FAILED: Refusal = Refusal::NotDone("Deletion Failed!");
    let (parts, body) = request.into_parts();
    let config = server.runtime.config();
    let body = extract::json(&extract::bytes(&parts.headers, body, config).await?, config.json_depth_max)?;
    let (_, login) = extract::login(&server, &parts.headers).await?;
    let mut members = extract::members(body, true).map_err(|detail| Refusal::detail(*detail))?;
    let email = match members.contains_key("email") {
        true => address(&mut members),
        false => Ok(login.email.clone()),
    };
    let (email, password) = both(email, secret(&mut members, "password"))?;
    let asking = prove(&server, &login, password, FAILED).await?;
    let user = match email == asking.email {
        true => asking,
        // Who may not ask for it hears the same of every address.
        false if !asking.is_admin => return Err(FAILED),
        false => server.runtime.user(&email).await?.ok_or(Refusal::NotFound)?,
    };
    match server.runtime.remove_user(&user.email, user.id.0).await? {
        Removed::Done => {}
        Removed::Unknown => return Err(Refusal::NotFound),
        Removed::LastAdministrator => {
            return Err(Refusal::Clash("The last administrator stays: make another one first"));
        }
    }
    server.tokens.forget_user(&user);
    Ok(answer(StatusCode::OK, &json!({ "message": "Successfully Deleted!" })))
}

/// How `DELETE /user` is documented.
pub(crate) fn describe_delete(types: &mut Types) -> Describe {
    let properties = json!({ "password": password_schema(), "email": email::schema() });
    let body = json!({ "type": "object", "properties": properties, "required": ["password"] });
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, "Go")
        .about("The user goes with all logins and keys, and the graph after that. An administrator may name another.")
        .login()
        .body(body, true)
        .answers(200, "The user is gone.", message.clone())
        .answers(403, "The password is another, or who asks may not send others away.", message)
        .refuses(&[Refused::NotFound, Refused::Conflict, Refused::TooMany])
        .writes()
}
