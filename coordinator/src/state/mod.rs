//! The life of an asset as a pure state machine: no I/O, no clock.
//!
//! [`handle`] takes a record, the moment and an input, and gives the next record and what is to be done. Every effect
//! may be done twice, and can be derived again from the record: whoever applies an input may die before, between or
//! after its effects.

mod about;
mod asset;
mod attempt;
mod done;
mod edition;
#[cfg(test)]
mod failing;
mod growth;
mod intake;
mod machine;
mod notice;
mod rendition;
mod report;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod simulation;
mod stage;
mod suspect;
mod words;

pub use about::{About, AboutPatch, MAX_NAME_CHARS, NotTaken};
pub use asset::{Arrival, Asset, SourceFacts, Timings, Upload, VideoFacts};
pub use attempt::Attempt;
pub use done::DoneSet;
pub use edition::{Abandoned, Standing};
pub use growth::Growth;
pub use intake::UPLOAD_EXPIRES_AFTER;
pub use machine::{MAX_IN_FLIGHT, handle};
pub use notice::{Notice, Occasion};
pub use rendition::{Encoder, Planned, Rendition, RenditionKind};
pub use stage::{Job, Stage, StageName};
pub use words::{Beginning, Effect, Input, Made, MadePart, Moment, PlanSummary, Transition, Twin};
