use std::collections::BTreeMap;

use walkabout::{mail::Mail, prelude::*, schema::NodeId};

use crate::report;

/// Runs that a full report lists.
const RUNS_LISTED: usize = 500;

/// Writes a PDF about a user's graph and runs into the server's file area, and gives its URL. When the server sends mail, it tells who
/// asked for it; that it could not is a line of the log.
#[derive(Debug, Walker, Serialize, Deserialize)]
#[walker(async)]
pub struct GenerateReport {
    /// Whose report: the caller's own `id` or `root_id` as the login gives them; an administrator may name another.
    pub user_id: String,
    /// `summary` or `full`.
    pub report_type: String,
    /// Where the report is.
    #[serde(default)]
    #[walker(excluded)]
    pub report_url: String,
}

#[abilities]
impl GenerateReport {
    #[entry]
    async fn enter(&mut self, here: Here<Root>, cx: &mut Context) -> Outcome {
        let is_full = match self.report_type.as_str() {
            "summary" => false,
            "full" => true,
            other => return Err(fail(format!("report_type is {other:?}: use \"summary\" or \"full\""))),
        };
        // A user's id and root have one UUID; `n::` before it is fine.
        let digits = self.user_id.strip_prefix("n::").unwrap_or(&self.user_id);
        let named = format!("n::{digits}").parse::<NodeId>().ok();
        let is_own = named.as_ref().is_some_and(|named| named.uuid() == here.uuid());
        if !is_own && !cx.is_admin() {
            return Err(fail("user_id must be your own"));
        }
        let Some(named) = named else { return Err(fail("user_id is no id")) };
        let Some(root) = cx.get::<Root>(&named.into()).await? else {
            return Err(fail("there is no such user, or the graph may not be read"));
        };
        let mut kinds = BTreeMap::<String, usize>::new();
        for node in cx.list(root.out()).await? {
            *kinds.entry(node.name().to_string()).or_default() += 1;
        }
        let mut lines =
            vec![format!("Report for {}", root.id()), format!("Made at {}", cx.now()), String::new()];
        lines.push("Nodes under the root, by type:".to_owned());
        lines.extend(kinds.iter().map(|(kind, count)| format!("  {kind}: {count}")));
        if is_own {
            let runs = cx.records(None, None, None, RUNS_LISTED).await?.walkers;
            lines.push(String::new());
            lines.push(format!("The last {} runs:", runs.len()));
            let mut statuses = BTreeMap::<String, usize>::new();
            for run in &runs {
                *statuses.entry(format!("{:?}", run.schedule.status).to_lowercase()).or_default() += 1;
            }
            lines.extend(statuses.iter().map(|(status, count)| format!("  {status}: {count}")));
            if is_full {
                lines.push(String::new());
                lines.extend(
                    runs.iter().map(|run| {
                        format!("  {}  {:?}  {}", run.run.created_at, run.schedule.status, run.id)
                    }),
                );
            }
        }
        let pdf = cx.compute(move |_| report::pdf(&lines)).await?;
        self.report_url = cx.file(&format!("report-{}.pdf", self.report_type), pdf).await?.url;
        if cx.has_mail() {
            self.tell(cx).await?;
        }
        DONE
    }

    async fn tell(&self, cx: &mut Context) -> Result<(), Failure> {
        let base = cx.config().mail_links.as_deref().unwrap_or_default().trim_end_matches('/');
        let text = format!(
            "The {} report that you asked for is ready:\n\n{base}{}\n",
            self.report_type, self.report_url
        );
        match cx.mail(Mail::new("Your report is ready", text)).await {
            Ok(to) if to.is_empty() => cx.log("no mail was sent: the user's address is not verified"),
            Ok(_) => Ok(()),
            Err(failure) => cx.log(format!(
                "no mail was sent: {}",
                failure.message().unwrap_or("see the log of the server")
            )),
        }
    }
}
