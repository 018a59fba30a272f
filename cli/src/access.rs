//! `reelmill token`, `key` and `policy`: who may watch what.
//!
//! Tokens are signed here, with a key file that need not leave this machine. Keys and policies are told to edges over NATS.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::access::{Countries, Country, KeyId, Policy, Subject, TokenKey};
use reelmill_platform::bus::Bus;
use reelmill_platform::jwk::{self, Jwk};
use reelmill_platform::token::{self, Claims};
use reelmill_platform::topology::BucketName;
use serde::{Deserialize, Serialize};

use crate::up::state::State;

/// Where edges hear of keys and policies.
#[derive(Debug, Clone, Args)]
pub struct Nats {
    /// NATS servers, comma-separated; of the Reelmill that runs on `--data` unless said
    #[arg(long, env = "REELMILL_NATS", value_name = "URLS")]
    nats: Option<String>,
    /// Folder of a Reelmill on this machine
    #[arg(long, env = "REELMILL_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Algorithm {
    /// A secret that edges share
    Hs256,
    /// A pair of which edges know the public half only
    Eddsa,
}

/// What is done with a key.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Make a key, keep it in a file, and tell edges to take its tokens
    New {
        /// Its id, which its tokens name
        kid: KeyId,
        /// The file, made for nobody else's eyes
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        #[arg(long, value_enum, default_value = "eddsa")]
        algorithm: Algorithm,
        /// Its tokens open this tenant's assets only
        #[arg(long)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        nats: Nats,
    },
    /// Withdraw a key: its tokens open nothing any more
    Rm {
        /// Its id
        kid: KeyId,
        #[command(flatten)]
        nats: Nats,
    },
}

/// A token's claims.
#[derive(Debug, Clone, Args)]
pub struct Grant {
    /// File of the key, as `reelmill key new` makes it
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// How long it is valid, in seconds
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    lasts: i64,
    /// Opens this asset only
    #[arg(long)]
    asset: Option<AssetId>,
    /// Opens only what begins so, as in /assets/ID/v480
    #[arg(long)]
    path: Option<String>,
    /// Opens in this country only, as in DE; may be given several times
    #[arg(long = "country", value_delimiter = ',')]
    countries: Vec<Country>,
    /// Opens for this network only, as in 192.0.2.0/24; may be given several times
    #[arg(long = "network", value_delimiter = ',')]
    networks: Vec<ipnet::IpNet>,
}

/// What is asked of viewers of an asset, or of a tenant's assets.
#[derive(Debug, Clone, Args)]
pub struct PolicyChange {
    #[arg(long, required_unless_present = "tenant", conflicts_with = "tenant")]
    asset: Option<AssetId>,
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Take the policy away
    #[arg(long, conflicts_with_all = ["private", "only", "all_but"])]
    clear: bool,
    /// A token is needed
    #[arg(long)]
    private: bool,
    /// Only in these countries, as in DE,AT
    #[arg(long, value_delimiter = ',', conflicts_with = "all_but")]
    only: Vec<Country>,
    /// Everywhere but in these countries
    #[arg(long, value_delimiter = ',')]
    all_but: Vec<Country>,
    #[command(flatten)]
    nats: Nats,
}

/// A key's file: a JSON Web Key with its id.
#[derive(Debug, Serialize, Deserialize)]
struct KeyFile {
    kid: KeyId,
    #[serde(flatten)]
    jwk: Jwk,
}

impl Nats {
    async fn open(&self) -> anyhow::Result<Bus> {
        let servers = match (&self.nats, State::read(&self.data)) {
            (Some(servers), _) => servers.clone(),
            (None, Ok(state)) => state.nats,
            (None, Err(_)) => bail!("no Reelmill runs on {}: say --nats", self.data.display()),
        };
        Ok(Bus::observe(&servers, "reelmill").await?)
    }
}

/// Prints a token.
pub fn grant(grant: &Grant) -> anyhow::Result<()> {
    let text = std::fs::read(&grant.key_file)
        .with_context(|| format!("cannot read the key file {}", grant.key_file.display()))?;
    let key: KeyFile = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no JSON Web Key with a kid", grant.key_file.display()))?;
    let now = Timestamp::now();
    let claims = Claims {
        exp: now
            .checked_add(SignedDuration::from_secs(grant.lasts))
            .context("--lasts goes past the end of time")?
            .as_second(),
        nbf: None,
        asset: grant.asset,
        path: grant.path.clone(),
        countries: (!grant.countries.is_empty()).then(|| grant.countries.iter().copied().collect()),
        networks: (!grant.networks.is_empty()).then(|| grant.networks.clone()),
        sub: None,
        iat: Some(now.as_second()),
    };
    println!("{}", token::sign(&claims, &key.kid, &key.jwk)?);
    Ok(())
}

/// Makes or withdraws a key.
pub async fn key(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::New { kid, file, algorithm, tenant, nats } => {
            let jwk = Jwk::generate(match algorithm {
                Algorithm::Hs256 => jwk::Algorithm::HS256,
                Algorithm::Eddsa => jwk::Algorithm::EdDSA,
            })?;
            let bus = nats.open().await?;
            let bucket = bus.bucket::<TokenKey>(BucketName::TokenKeys).await?;
            if bucket.get(&kid.to_string()).await?.is_some() {
                bail!("there is a key {kid} already: withdraw it, or take another id");
            }
            let record = TokenKey { tenant, jwk: jwk.proving() };
            write(&file, &serde_json::to_vec_pretty(&KeyFile { kid: kid.clone(), jwk })?)?;
            bucket.put(&kid.to_string(), &record).await?;
            Ok(())
        }
        KeyCommand::Rm { kid, nats } => {
            let bus = nats.open().await?;
            let bucket = bus.bucket::<TokenKey>(BucketName::TokenKeys).await?;
            Ok(bucket.remove(&kid.to_string()).await?)
        }
    }
}

/// Sets a policy, or takes it away.
pub async fn policy(change: PolicyChange) -> anyhow::Result<()> {
    let subject = match (change.asset, change.tenant) {
        (Some(asset), _) => Subject::Asset(asset),
        (None, Some(tenant)) => Subject::Tenant(tenant),
        (None, None) => bail!("say --asset or --tenant"),
    };
    let bucket = change.nats.open().await?.bucket::<Policy>(BucketName::Policies).await?;
    if change.clear {
        return Ok(bucket.remove(&subject.to_string()).await?);
    }
    let countries = match (change.only.is_empty(), change.all_but.is_empty()) {
        (false, _) => Countries::Only(change.only.into_iter().collect()),
        (true, false) => Countries::AllBut(change.all_but.into_iter().collect()),
        (true, true) => Countries::All,
    };
    bucket.put(&subject.to_string(), &Policy { private: change.private, countries }).await?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make the key file {}", path.display()))?;
    file.write_all(bytes)?;
    Ok(())
}
