//! The life of an asset as a pure state machine: no I/O, no clock.
//!
//! [`handle`] takes a record, the moment and an input, and gives the next record and what is to be done. Every effect
//! may be done twice, and can be derived again from the record: whoever applies an input may die before, between or
//! after its effects.

mod about;
mod asset;
mod attempt;
mod done;
mod intake;
mod machine;
mod notice;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
mod words;

pub use about::{About, AboutPatch, MAX_NAME_CHARS, NotTaken};
pub use asset::{
    Arrival, Asset, Attempt, Encoder, Job, Planned, Rendition, RenditionKind, SourceFacts, Stage, StageName,
    Timings, Upload, VideoFacts,
};
pub use done::DoneSet;
pub use intake::UPLOAD_EXPIRES_AFTER;
pub use machine::{MAX_IN_FLIGHT, handle};
pub use notice::{Notice, Occasion};
pub use words::{Effect, Input, Made, MadePart, Moment, PlanSummary, Transition, Twin};
