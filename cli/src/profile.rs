//! `reelmill profile`: what a tenant has made of its uploads, under names.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use reelmill_media::ids::ProfileName;
use reqwest::{Method, header};
use serde::Deserialize;
use serde_json::Value;

use crate::api::Api;

/// A profile, for whoever has not seen one.
const EXAMPLE: &str = r#"{"video": [{"codec": "h264"}]}"#;

/// What is done with profiles.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// List profiles; `default` is what uploads are made by that name none
    Ls,
    /// Keep a profile under a name
    Set {
        /// Lower-case letters, digits and -
        name: ProfileName,
        /// A file with a profile in JSON
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take a profile away; what was made by it stays as it is
    Rm {
        /// Its name
        name: ProfileName,
    },
}

/// A profile for an upload: a name, or a file with one in JSON. What could be a name is one.
#[derive(Debug, Clone)]
pub enum Choice {
    Named(ProfileName),
    File(PathBuf),
}

impl From<&str> for Choice {
    fn from(text: &str) -> Choice {
        text.parse().map_or_else(|_| Choice::File(text.into()), Choice::Named)
    }
}

impl Choice {
    /// As tus metadata say it.
    pub async fn text(&self) -> anyhow::Result<String> {
        match self {
            Choice::Named(name) => Ok(name.to_string()),
            Choice::File(path) => read(path).await,
        }
    }
}

/// The profile in a file. Whether it can be used, the server says.
async fn read(path: &Path) -> anyhow::Result<String> {
    let file = path.display();
    let text = tokio::fs::read_to_string(path).await.with_context(|| format!("cannot read {file}"))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => bail!("{file} holds no profile, which is a JSON object as in {EXAMPLE}"),
        Err(e) => bail!(
            "{file} is not JSON, it goes wrong at line {}, column {}; a profile is a JSON object as in {EXAMPLE}",
            e.line(),
            e.column()
        ),
    }
}

#[derive(Debug, Deserialize)]
struct Profiles {
    profiles: serde_json::Map<String, Value>,
}

/// Lists profiles, or does something about one.
pub async fn run(api: &Api, command: Command) -> anyhow::Result<()> {
    let path = |name: &ProfileName| format!("/v1/profiles/{name}");
    match command {
        Command::Ls => {
            let request = api.request(Method::GET, "/v1/profiles");
            let Profiles { profiles } = api.send(request).await?.json().await?;
            for (name, profile) in profiles {
                println!("{name}  {profile}");
            }
            Ok(())
        }
        Command::Set { name, file } => {
            let profile = read(&file).await?;
            let request = api.request(Method::PUT, &path(&name));
            let request = request.header(header::CONTENT_TYPE, "application/json").body(profile);
            println!("{name}  {}", api.send(request).await?.json::<Value>().await?);
            Ok(())
        }
        Command::Rm { name } => {
            api.send(api.request(Method::DELETE, &path(&name))).await?;
            println!("{name}  taken away: what was made by it stays as it is");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_without_a_profile_is_named_with_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("thorough.json");
        for (text, why) in [
            (
                "{\n \"video\": }",
                Some("thorough.json is not JSON, it goes wrong at line 2, column 11; a profile is"),
            ),
            ("[]", Some("thorough.json holds no profile, which is a JSON object")),
            (EXAMPLE, None),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = read(&file).await.err().map(|error| error.to_string());
            assert_eq!(error.is_some(), why.is_some(), "{text}");
            assert!(error.unwrap_or_default().contains(why.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn what_could_be_a_name_is_one() {
        assert!(matches!(Choice::from("thorough-2"), Choice::Named(_)));
        for file in ["thorough.json", "./thorough", "Thorough", ""] {
            assert!(matches!(Choice::from(file), Choice::File(_)), "{file}");
        }
    }
}
