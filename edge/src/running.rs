//! An edge that serves, from the moment it is made until its end.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, Geo};
use crate::certificate::{Certificate, Source};
use crate::changeable::Mistakes;
use crate::clients::ClientLimits;
use crate::limits::SUCCESSION_SETTLES;
use crate::listener::Context;
use crate::listener::relay::Relayed;
use crate::listener::shared_port::SharedPort;
use crate::takedown::Takedowns;
use crate::traces::TraceWish;
use crate::upgrade::{Estate, Item, Port, UpgradeError};

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    /// Where.
    pub addresses: Addresses,
    pub(crate) context: Context,
    pub(crate) certificate: Certificate,
    pub(crate) access: Access,
    pub(crate) takedowns: Takedowns,
    /// What a newer process would get, and the sockets that it would read from.
    pub(crate) estate: Estate,
    pub(crate) shared: Vec<(Port, Arc<SharedPort>)>,
    /// Take connections.
    pub(crate) begun: CancellationToken,
    /// Held open by the QUIC listeners that still let somebody in.
    pub(crate) doors: TaskTracker,
    pub(crate) listeners: TaskTracker,
    /// Fills, and what listens and tidies.
    pub(crate) background: TaskTracker,
    pub(crate) grace: Duration,
}

/// Where a running edge is found; the ready file's content.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// HTTP/3, and HTTP/2 and 1.1 over TLS.
    pub listen: SocketAddr,
    /// HTTP/1.1 without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain_listen: Option<SocketAddr>,
    /// HTTP/3 for other edges of the PoP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<SocketAddr>,
    /// SHA-256 of the certificate's public key in base64.
    pub spki_sha256: String,
}

/// What may change while it runs.
#[derive(Debug, Clone)]
pub struct Changes {
    /// What one client address may take.
    pub client: ClientLimits,
    /// Certificate.
    pub certificate: Source,
    /// File of countries.
    pub geoip: Option<PathBuf>,
    /// Which connections are traced from now on.
    pub traces: TraceWish,
}

impl Running {
    /// Waits, for a while, until it knows what it would only learn later: who may have what, and what was taken down.
    pub async fn settled(&self) {
        let settling = async { tokio::join!(self.access.until_known(), self.takedowns.until_known()) };
        if timeout(SUCCESSION_SETTLES, settling).await.is_err() {
            tracing::warn!("policies and takedowns are not known yet");
        }
    }

    /// Takes connections from now on.
    pub fn begin(&self) {
        self.shared.iter().for_each(|(_, port)| port.begin());
        self.begun.cancel();
    }

    /// Starts `program` as a newer process of this edge, and leaves the sockets to it once it is ready; gives its id. The
    /// drain has to follow. After an error nothing has changed.
    pub async fn hand_over(&self, program: &mut Command, admin: impl AsFd) -> Result<u32, UpgradeError> {
        let mut relays = Vec::new();
        let mut more = vec![(Item::Admin, admin.as_fd().try_clone_to_owned()?)];
        for (port, shared) in &self.shared {
            let (older, newer) = Relayed::pair()?;
            relays.push((shared, older));
            more.push((Item::Relay { generation: self.estate.generation, port: *port }, newer));
        }
        let successor = self.estate.offer(program, &more).await?;
        for (shared, older) in relays {
            shared.leave_to(older);
        }
        self.context.succeeded.cancel();
        Ok(successor.begin().await)
    }

    /// Changes all of it, or nothing and says everything that is wrong.
    pub fn change(&self, changes: Changes) -> Result<(), Mistakes> {
        let mut mistakes = Vec::new();
        let certificate = Certificate::candidate(changes.certificate);
        let geo = changes.geoip.as_deref().map(Geo::open).transpose();
        mistakes.extend(certificate.as_ref().err().map(ToString::to_string));
        mistakes.extend(geo.as_ref().err().map(ToString::to_string));
        let (Ok(certificate), Ok(geo)) = (certificate, geo) else { return Err(Mistakes(mistakes)) };
        self.certificate.take(certificate);
        self.access.set_geo(geo);
        self.context.clients.set_limits(changes.client);
        self.context.traces.ask_for(changes.traces);
        Ok(())
    }

    /// Waits for the drain, then for what is in flight, but no longer than the grace; then ends the rest.
    pub async fn finished(self) {
        self.context.drain.cancelled().await;
        // Or the kernel would go on taking connections.
        drop(self.estate);
        let tasks = &self.context.tasks;
        tasks.close();
        self.doors.close();
        let settled = async {
            tasks.wait().await;
            self.context.last_call.cancel();
            self.doors.wait().await;
            tasks.wait().await;
        };
        if timeout(self.grace, settled).await.is_err() {
            tracing::warn!(connections = tasks.len(), "grace is over, ending what is left");
        }
        self.context.end.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.context.tasks.wait().await;
        // The access log ends with the last that could write to it.
        drop(self.context);
        self.background.close();
        self.background.wait().await;
    }
}
