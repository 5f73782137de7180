//! What a walker is at: which call of which ability, in which of the walkers inside each other.

use crate::walk::Stage;

/// Names one call of an ability or step within an errand. The same when the attempt repeats it, also from a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The key of the call that spawned this walker, and which of its spawns this is; empty for the outermost walker.
    within: String,
    stage: &'static str,
    ability: &'static str,
    /// 0 for the ability itself, then the number of the step that it led to.
    step: u64,
    spawned: u64,
}

impl Turn {
    /// A call begins.
    pub(crate) fn begin(&mut self, stage: Stage, ability: &'static str, step: u64) {
        (self.stage, self.ability, self.step, self.spawned) = (stage.as_str(), ability, step, 0);
    }

    /// The present call. As many parts for every walker, so that no two read the same.
    pub(crate) fn key(&self, visit: u64) -> String {
        let Self { within, stage, ability, step, .. } = self;
        format!("{within}/{visit}.{stage}.{ability}.{step}")
    }

    /// For a walker that the present call spawns.
    pub(crate) fn inside(&mut self, visit: u64) -> Self {
        self.spawned += 1;
        Self { within: format!("{}.{}", self.key(visit), self.spawned), ..Self::default() }
    }
}
