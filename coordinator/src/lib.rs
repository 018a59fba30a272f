//! Takes uploads, plans them, drives their jobs and publishes presentations.

pub mod state;
