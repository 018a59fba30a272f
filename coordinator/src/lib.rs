//! Takes uploads, plans them, drives their jobs and publishes presentations.

pub mod api;
pub mod archive;
pub mod assets;
pub mod captions;
pub mod catalog;
pub mod engine;
pub mod flags;
pub mod fleet;
pub mod garbage;
pub mod jobs;
pub mod metrics;
pub mod outputs;
pub mod plans;
pub mod process;
pub mod publish;
pub mod pulls;
pub mod quarantine;
pub mod quotas;
pub mod reach;
pub mod schedule;
pub mod state;
pub mod storyboard;
pub mod sweep;
pub mod twins;
pub mod uploads;
pub mod webhooks;
