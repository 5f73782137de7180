//! How the routes of single sign-on are documented.

use serde_json::{Value, json};

use crate::http::{
    openapi::{Describe, Place, Refused, Types},
    shapes::Message,
    users::{LoggedIn, password_schema},
};

const TAG: &str = "SSO APIs";

fn at(types: &mut Types, summary: &str) -> Describe {
    let (message, detail) = (types.sent::<Message<'_>>(), json!({ "type": "object" }));
    let platform = json!({ "type": "string", "minLength": 1 });
    let operation = json!({ "enum": ["login", "register", "attach"] });
    Describe::new(TAG, summary)
        .takes(Place::Path, "platform", platform, true, "The provider, as the settings name it.")
        .takes(Place::Path, "operation", operation, true, "What the sign-in is for.")
        .answers(501, "The settings have no such provider.", message)
        .answers(502, "The provider does not answer, or says what cannot be trusted.", detail)
        .refuses(&[Refused::Invalid])
        .reads_store()
}

fn text() -> Value {
    json!({ "type": "string" })
}

pub(crate) fn describe_begin(types: &mut Types) -> Describe {
    at(types, "Begin a sign-in")
        .takes(
            Place::Query,
            "redirect_uri",
            text(),
            false,
            "Where the browser comes back: one of the settings.",
        )
        .ends(303, "On to the provider.")
}

pub(crate) fn describe_callback(types: &mut Types) -> Describe {
    let (logged_in, message) = (types.sent::<LoggedIn<'_>>(), types.sent::<Message<'_>>());
    let attached = json!({ "type": "object", "properties": {
        "platform": text(), "id": text(), "email": text(), "proof": text(), "expires_in": { "type": "integer" },
    }, "required": ["platform", "id", "email", "proof", "expires_in"] });
    at(types, "End a sign-in")
        .takes(Place::Query, "code", text(), false, "What the provider gave.")
        .takes(Place::Query, "state", text(), false, "What the provider was given.")
        .takes(Place::Query, "error", text(), false, "Why the provider gave nothing.")
        .answers(
            200,
            "A token, and the user whose it is; or what `POST /sso/attach` takes.",
            json!({ "anyOf": [logged_in, attached] }),
        )
        .answers(400, "The address is not verified here.", json!({ "type": "object" }))
        .answers(403, "The sign-in failed, or is for nobody.", message)
        .refuses(&[Refused::Conflict])
        .writes()
}

pub(crate) fn describe_posted(types: &mut Types) -> Describe {
    at(types, "Take a sign-in that the provider posts").reads().ends(303, "On to the same by GET.")
}

pub(crate) fn describe_attach(types: &mut Types) -> Describe {
    let properties = json!({ "platform": text(), "id": text(), "email": text(), "proof": text(), "password": password_schema() });
    let required = ["platform", "id", "email", "proof"];
    let body = json!({ "type": "object", "properties": properties, "required": required });
    change(types, "Attach an identity", body)
        .about("What the callback of `attach` answered, and the password, if the account has one.")
        .refuses(&[Refused::TooMany])
}

pub(crate) fn describe_detach(types: &mut Types) -> Describe {
    let body = json!({ "type": "object", "properties": { "platform": text() }, "required": ["platform"] });
    change(types, "Detach an identity", body)
}

fn change(types: &mut Types, summary: &str, body: Value) -> Describe {
    let message = types.sent::<Message<'_>>();
    Describe::new(TAG, summary)
        .login()
        .body(body, true)
        .answers(200, "It is done.", message.clone())
        .answers(403, "It cannot be done: the message says why.", message.clone())
        .answers(501, "The settings have no such provider.", message)
        .writes()
}
