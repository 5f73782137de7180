//! Users with fields of their own, and mail to them.
//!
//! `cargo run --example accounts -- --mail-url file:///tmp/mails --mail-from us@example.com`, then register with
//! `POST /user/register {"email": "ann@example.com", "password": "correct horse", "name": "Ann"}`. The code that verifies the address is
//! in a file of that folder: `POST /user/verify {"code": "…"}`.

use std::process::ExitCode;

use walkabout::{
    mail::{Letter, Mail, Purpose},
    prelude::*,
};

/// What a user has beside address and password.
#[derive(Serialize, Deserialize)]
struct Account {
    name: String,
    #[serde(default)]
    language: Language,
}

#[derive(Serialize, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Language {
    #[default]
    English,
    French,
}

impl Account {
    fn greeting(&self) -> String {
        match self.language {
            Language::English => format!("Good day, {}", self.name),
            Language::French => format!("Bonjour, {}", self.name),
        }
    }
}

/// Greets whoever calls.
#[derive(Walker, Serialize, Deserialize)]
struct Greet {}

#[abilities]
impl Greet {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let user = cx.user::<Account>().await?;
        cx.report(user.map(|user| user.fields.greeting()))?;
        DONE
    }
}

/// Asks a friend to come, and tells the user that it did.
#[derive(Walker, Serialize, Deserialize)]
#[walker(async)]
struct Invite {
    friend: String,
}

#[abilities]
impl Invite {
    #[entry]
    async fn start(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let Some(user) = cx.user::<Account>().await? else { return Err(fail("only users invite")) };
        if !user.is_activated {
            return Err(fail("verify your address first"));
        }
        let text = format!("{} would like to see you here.", user.fields.name);
        cx.mail(Mail::new("An invitation", text).to(&self.friend)).await?;
        // A step of its own: when this one has to be repeated, the friend is not asked again.
        cx.checkpoint();
        cx.then("told")
    }

    #[step]
    async fn told(&mut self, _here: Here<Root>, cx: &mut Context) -> Outcome {
        let html = "<p>Your invitation is on its way.</p>";
        let told =
            cx.mail(Mail::new("You invited somebody", "Your invitation is on its way.").html(html)).await?;
        cx.report(told)?;
        DONE
    }
}

/// The letters that the server writes, in the language of the user. Nothing else that was typed at the registration is in them: nobody has
/// shown yet that the address belongs to whoever typed it.
fn letter(letter: &Letter) -> Mail {
    match (letter.fields::<Account>(), letter.purpose) {
        (Some(Account { language: Language::French, .. }), Purpose::Verify) => {
            let text = format!("Bonjour.\n\nVoici votre code :\n\n{}\n", letter.code);
            Mail::new("Vérifiez votre adresse", text)
        }
        _ => letter.mail(),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    walkabout::Walkabout::new()
        .user::<Account>()
        .letters(letter)
        .walker::<Greet>()
        .walker::<Invite>()
        .serve()
        .await
}
