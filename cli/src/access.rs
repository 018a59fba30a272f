//! `reelmill token`, `key` and `policy`: who may watch what.
//!
//! Tokens are signed here, with a key file that need not leave this machine.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use reelmill_media::ids::{AssetId, TenantId};
use reelmill_platform::access::{Countries, Country, KeyId, Policy};
use reelmill_platform::jwk::{self, Jwk};
use reelmill_platform::token::{self, Claims};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::api::Api;

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
    /// Make a key, keep it in a file, and have edges take its tokens
    New {
        /// Its id, which its tokens name
        kid: KeyId,
        /// The file, made for nobody else's eyes
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        #[arg(long, value_enum, default_value = "eddsa")]
        algorithm: Algorithm,
        #[command(flatten)]
        scope: Scope,
    },
    /// Have edges take tokens of a key in a file again, as after a lost NATS
    Add {
        /// The file, as `reelmill key new` makes it
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        scope: Scope,
    },
    /// List keys
    Ls,
    /// Withdraw a key: its tokens open nothing any more
    Rm {
        /// Its id
        kid: KeyId,
    },
}

/// Which assets a key's tokens open.
#[derive(Debug, Clone, Copy, Args)]
pub struct Scope {
    /// Its tokens open assets of all tenants (operator only), not only of the API key's own
    #[arg(long)]
    all_tenants: bool,
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

/// What is to be asked of viewers of an asset, or of a tenant's assets. Where nothing is said, what is asked of them stays.
#[derive(Debug, Clone, Args)]
pub struct PolicyChange {
    #[command(flatten)]
    whose: Whose,
    /// For everyone; for an asset, whatever is asked of viewers of its tenant's others
    #[arg(long, conflicts_with_all = ["private", "only", "all_but"])]
    public: bool,
    /// A token is needed
    #[arg(long)]
    private: bool,
    /// Only in these countries, as in DE,AT
    #[arg(long, value_delimiter = ',', value_name = "COUNTRIES", conflicts_with = "all_but")]
    only: Vec<Country>,
    /// Everywhere but in these countries
    #[arg(long, value_delimiter = ',', value_name = "COUNTRIES")]
    all_but: Vec<Country>,
    /// Take the policy away: for an asset, its tenant's counts again
    #[arg(long, conflicts_with_all = ["public", "private", "only", "all_but"])]
    clear: bool,
}

/// Whose viewers.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Of this asset
    #[arg(long)]
    asset: Option<AssetId>,
    /// Of a tenant's assets that have no policy of their own
    #[arg(long)]
    tenant: Option<TenantId>,
}

impl PolicyChange {
    /// The policy that is to stand from now on; none where nothing is to change.
    fn wanted(&self) -> Option<Policy> {
        let countries = match (self.only.is_empty(), self.all_but.is_empty()) {
            (false, _) => Countries::Only(self.only.iter().copied().collect()),
            (true, false) => Countries::AllBut(self.all_but.iter().copied().collect()),
            (true, true) => Countries::All,
        };
        let policy = Policy { private: self.private, countries };
        (self.public || policy != Policy::default()).then_some(policy)
    }
}

/// A key's file: a JSON Web Key with its id.
#[derive(Debug, Serialize, Deserialize)]
struct KeyFile {
    kid: KeyId,
    #[serde(flatten)]
    jwk: Jwk,
}

/// A key as the API shows it.
#[derive(Debug, Deserialize)]
struct TokenKey {
    kid: KeyId,
    tenant: Option<TenantId>,
    algorithm: jwk::Algorithm,
}

impl std::fmt::Display for TokenKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TokenKey { kid, tenant, algorithm } = self;
        let whose = tenant.as_ref().map_or("all tenants".to_owned(), |tenant| format!("tenant {tenant}"));
        write!(to, "{kid}  {algorithm:?}  opens assets of {whose}")
    }
}

#[derive(Debug, Deserialize)]
struct TokenKeys {
    token_keys: Vec<TokenKey>,
}

impl KeyFile {
    fn read(path: &Path) -> anyhow::Result<KeyFile> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read the key file {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no JSON Web Key with a kid", path.display()))
    }

    /// Shows the API what proves the key's tokens, and prints what is taken.
    async fn tell(&self, api: &Api, Scope { all_tenants }: Scope) -> anyhow::Result<()> {
        let body = json!({ "jwk": self.jwk.proving(), "all_tenants": all_tenants });
        let request = api.request(Method::PUT, &format!("/v1/token-keys/{}", self.kid)).json(&body);
        println!("{}", api.send(request).await?.json::<TokenKey>().await?);
        Ok(())
    }
}

/// Prints a token.
pub fn grant(grant: &Grant) -> anyhow::Result<()> {
    let key = KeyFile::read(&grant.key_file)?;
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

/// Makes, tells, lists or withdraws keys.
pub async fn key(api: &Api, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::New { kid, file, algorithm, scope } => {
            let jwk = Jwk::generate(match algorithm {
                Algorithm::Hs256 => jwk::Algorithm::HS256,
                Algorithm::Eddsa => jwk::Algorithm::EdDSA,
            })?;
            let key = KeyFile { kid, jwk };
            write(&file, &serde_json::to_vec_pretty(&key)?)?;
            let told = key.tell(api, scope).await;
            if told.is_err() {
                // Of a key that nobody takes there should be no file that looks as if.
                std::fs::remove_file(&file)?;
            }
            told
        }
        KeyCommand::Add { file, scope } => KeyFile::read(&file)?.tell(api, scope).await,
        KeyCommand::Ls => {
            let request = api.request(Method::GET, "/v1/token-keys");
            let TokenKeys { token_keys } = api.send(request).await?.json().await?;
            if token_keys.is_empty() {
                println!("no keys yet: reelmill key new ID --file FILE");
            }
            token_keys.iter().for_each(|key| println!("{key}"));
            Ok(())
        }
        KeyCommand::Rm { kid } => {
            api.send(api.request(Method::DELETE, &format!("/v1/token-keys/{kid}"))).await?;
            println!("{kid}  withdrawn: its tokens open nothing any more");
            Ok(())
        }
    }
}

/// Sets a policy or takes it away, and shows it.
pub async fn policy(api: &Api, change: PolicyChange) -> anyhow::Result<()> {
    let path = match &change.whose {
        Whose { asset: Some(asset), .. } => format!("/v1/assets/{asset}/policy"),
        Whose { tenant: Some(tenant), .. } => format!("/v1/tenants/{tenant}/policy"),
        Whose { asset: None, tenant: None } => bail!("say --asset or --tenant"),
    };
    if change.clear {
        api.send(api.request(Method::DELETE, &path)).await?;
        println!("no policy any more");
        return Ok(());
    }
    let request = match change.wanted() {
        Some(policy) => api.request(Method::PUT, &path).json(&policy),
        None => api.request(Method::GET, &path),
    };
    let policy: Policy = api.send(request).await?.json().await?;
    println!("{}", asked(&policy));
    Ok(())
}

/// What a policy asks of viewers, in words.
fn asked(policy: &Policy) -> String {
    let listed = |countries: &BTreeSet<Country>| {
        countries.iter().map(Country::to_string).collect::<Vec<_>>().join(", ")
    };
    let token = if policy.private { "with a token" } else { "without a token" };
    let place = match &policy.countries {
        Countries::All => "everywhere".to_owned(),
        Countries::Only(countries) => format!("only in {}", listed(countries)),
        Countries::AllBut(countries) => format!("everywhere but in {}", listed(countries)),
    };
    format!("{token}, {place}")
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
