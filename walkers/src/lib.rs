//! The stock walkers: the listings of the async-walker documentation, made real. One file each.

mod analyze_data;
mod check_processing;
mod dataset;
mod generate_report;
mod outside;
mod page;
mod process_large_dataset;
mod process_with_updates;
mod report;
mod safe_process;
mod sample;
mod sync_with_external_system;
mod view_sample_result;

pub use analyze_data::AnalyzeData;
pub use check_processing::CheckProcessing;
pub use generate_report::GenerateReport;
pub use process_large_dataset::ProcessLargeDataset;
pub use process_with_updates::ProcessWithUpdates;
pub use safe_process::SafeProcess;
pub use sample::Sample;
pub use sync_with_external_system::{ExternalItem, SyncWithExternalSystem};
pub use view_sample_result::ViewSampleResult;
use walkabout::registry::Registry;

/// Registers all of them.
pub fn stock(types: &mut Registry) {
    types
        .walker::<Sample>()
        .walker::<ViewSampleResult>()
        .walker::<ProcessLargeDataset>()
        .walker::<CheckProcessing>()
        .walker::<AnalyzeData>()
        .walker::<GenerateReport>()
        .walker::<SyncWithExternalSystem>()
        .walker::<ProcessWithUpdates>()
        .walker::<SafeProcess>();
}
