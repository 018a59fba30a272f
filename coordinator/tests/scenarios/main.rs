//! Whole lives against a real nats-server and the real coordinator binary; only the worker is a fake that needs no
//! codec.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod access;
mod captions;
mod client;
mod clients;
mod crashes;
mod deletion;
mod events;
mod extensions;
mod fairness;
mod fleet;
mod garbage;
mod heedless;
mod life;
mod listing;
mod lost_answers;
mod machines;
mod media;
mod origin;
mod overlap;
mod profiles;
mod pulls;
mod purges;
mod rebuild;
mod relay;
mod republish;
mod resumable;
mod s3;
mod scaling;
mod tenants;
mod twins;
mod uploads;
mod webhooks;
mod worker;
