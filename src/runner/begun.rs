//! Where an attempt begins, in memory.

use std::collections::BTreeMap;

use serde_json::Value;
use walkabout_schema::{Checkpoint, Fields, Items, Position};

use super::attempt::Report;
use crate::{
    walk::{Pieces, Walk},
    walker::Given,
};

/// Where an attempt begins: at the submission of its run, or at a checkpoint. It shares what it can with the attempt that goes on
/// from there, so that keeping it costs next to nothing.
#[derive(Default)]
pub(crate) struct Begun {
    pub(crate) fields: Fields,
    pub(crate) walk: Walk,
    pub(crate) position: Option<Position>,
    /// It acts as the system root.
    pub(crate) elevated: bool,
    pub(crate) reports: Pieces<Report>,
    pub(crate) status: Option<u16>,
    pub(crate) custom: Value,
    pub(crate) response: Option<Given>,
    /// What the run's result is with this response: one value.
    pub(crate) results: Pieces<Report>,
    /// The number of the run's next segment.
    pub(crate) next_segment: u64,
    /// Segments of the stored checkpoint that nothing here names: the next one removes them.
    pub(crate) left: Vec<u64>,
}

impl Begun {
    /// At the beginning.
    pub(crate) fn first(fields: Fields) -> Self {
        Self { fields, ..Self::default() }
    }

    /// Where a claimed run begins that was submitted with these fields. `None` when its checkpoint and segments do not fit each other.
    pub(crate) fn of(
        submitted: &Fields,
        checkpoint: Option<Checkpoint>,
        segments: BTreeMap<u64, Items>,
        takes_up: impl Fn(&Checkpoint) -> bool,
    ) -> Option<Self> {
        match checkpoint {
            None => Some(Self::first(submitted.clone())),
            Some(checkpoint) if takes_up(&checkpoint) => Self::resume(checkpoint, segments),
            Some(checkpoint) => Some(Self::again(submitted.clone(), &checkpoint)),
        }
    }

    /// At the beginning once more: the checkpoint does not count.
    fn again(fields: Fields, checkpoint: &Checkpoint) -> Self {
        let left = checkpoint.segments().into_iter().collect();
        Self { next_segment: checkpoint.next_segment, left, ..Self::first(fields) }
    }

    fn resume(mut checkpoint: Checkpoint, mut segments: BTreeMap<u64, Items>) -> Option<Self> {
        Some(Self {
            walk: Walk::resume(&mut checkpoint, &mut segments)?,
            reports: Pieces::load(checkpoint.reports, &mut segments)?,
            fields: checkpoint.fields,
            position: checkpoint.position,
            elevated: checkpoint.elevated,
            status: checkpoint.http_status,
            custom: checkpoint.custom,
            response: checkpoint.response.map(|reply| Given::Kept(Box::new(reply))),
            results: Pieces::load(checkpoint.results, &mut segments)?,
            next_segment: checkpoint.next_segment,
            left: Vec::new(),
        })
    }
}
