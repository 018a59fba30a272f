//! What may change while the edge runs: a small file, read at the start and at each SIGHUP.
//!
//! It is judged whole: either all of it counts, or nothing changes and every mistake is named.

use std::fmt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// No such file is longer, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says; each stands in place of the flag of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changeable {
    /// Connections at once from one address.
    pub client_connections: Option<usize>,
    /// Requests per second from one address.
    pub client_requests: Option<u32>,
    /// Handshakes per second from one address.
    pub client_handshakes: Option<u32>,
    /// Certificate chain in PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// File of countries.
    pub geoip: Option<PathBuf>,
    /// Traces that are begun from now on.
    pub qlog_connections: Option<u32>,
    /// Whose connections are traced.
    pub qlog_network: Option<IpNet>,
}

/// Everything that is wrong, each in one clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Mistakes {}

impl Changeable {
    /// Reads the file: a JSON object.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        let unreadable = |reason: String| Mistakes(vec![format!("cannot read {}: {reason}", path.display())]);
        let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if length > MAX_BYTES {
            return Err(unreadable(format!("it holds {length} bytes, more than {MAX_BYTES}")));
        }
        let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(fields)) => Self::from_fields(fields),
            Ok(_) => Err(unreadable("it is not a JSON object".to_owned())),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    fn from_fields(fields: serde_json::Map<String, Value>) -> Result<Self, Mistakes> {
        let mut read = Self::default();
        let mut mistakes = Vec::new();
        for (name, value) in fields {
            let outcome = match name.as_str() {
                "client_connections" => take(&mut read.client_connections, value),
                "client_requests" => take(&mut read.client_requests, value),
                "client_handshakes" => take(&mut read.client_handshakes, value),
                "certificate" => take(&mut read.certificate, value),
                "key" => take(&mut read.key, value),
                "geoip" => take(&mut read.geoip, value),
                "qlog_connections" => take(&mut read.qlog_connections, value),
                "qlog_network" => take(&mut read.qlog_network, value),
                _ => Err("there is no such setting".to_owned()),
            };
            mistakes.extend(outcome.err().map(|reason| format!("{name}: {reason}")));
        }
        if read.client_connections == Some(0) {
            mistakes.push("client_connections: nobody could connect".to_owned());
        }
        for (name, rate) in
            [("client_requests", read.client_requests), ("client_handshakes", read.client_handshakes)]
        {
            if rate == Some(0) {
                mistakes.push(format!("{name}: nobody would be answered"));
            }
        }
        if read.certificate.is_some() != read.key.is_some() {
            mistakes.push("certificate and key: one is not enough".to_owned());
        }
        if mistakes.is_empty() { Ok(read) } else { Err(Mistakes(mistakes)) }
    }
}

fn take<T: DeserializeOwned>(place: &mut Option<T>, value: Value) -> Result<(), String> {
    *place = Some(serde_json::from_value(value).map_err(|error| error.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Changeable, Mistakes> {
        let Value::Object(fields) = value else { panic!("{value}") };
        Changeable::from_fields(fields)
    }

    #[test]
    fn every_mistake_is_named() {
        let Mistakes(mistakes) = read(json!({
            "client_requests": 0, "client_connections": -1, "client_handshake": 5, "key": "a", "geoip": 7,
            "qlog_network": "here"
        }))
        .unwrap_err();
        for name in [
            "client_requests",
            "client_connections",
            "client_handshake",
            "certificate",
            "geoip",
            "qlog_network",
        ] {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(name)), "{name}: {mistakes:?}");
        }
        assert_eq!(mistakes.len(), 6);
        let good = read(json!({ "client_requests": 7, "geoip": "/x" })).unwrap();
        assert_eq!(good.client_requests, Some(7));
        assert_eq!(read(json!({})), Ok(Changeable::default()));
    }
}
