//! The first signal drains, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status of a process that was told to end at once, as a shell reports SIGINT.
const ENDED_AT_ONCE: i32 = 130;

/// Returns a token that SIGINT or SIGTERM cancels; a second such signal ends the process.
///
/// Call once, early in `main`. Fails only where signals cannot be listened to.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let drain = token.clone();
    tokio::spawn(async move {
        let mut first = true;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !first {
                std::process::exit(ENDED_AT_ONCE);
            }
            first = false;
            tracing::info!("draining; a second signal ends at once");
            drain.cancel();
        }
    });
    Ok(token)
}
