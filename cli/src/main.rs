//! `reelmill`: run a whole Reelmill on one machine, upload to it, watch it work.

mod access;
mod api;
mod caption;
mod count;
mod demo;
mod length;
mod list;
mod open;
mod profile;
mod publish;
mod purge;
mod rebuild;
mod remove;
mod show;
mod up;
mod upload;
mod watch;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reelmill_media::ids::AssetId;

use crate::api::Api;

/// Turns uploads into streams.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run Reelmill on this machine until Ctrl-C, nats-server included
    Up(up::Options),
    /// The same, and show a sample clip's way from upload to player
    Demo(up::Options),
    /// Upload a video and watch it being made
    Upload {
        /// The file
        file: PathBuf,
        /// Name of the asset; by default that of the file
        #[arg(long)]
        name: Option<String>,
        /// What is to be made of it: a profile's name, or a file with a profile in JSON
        #[arg(long, value_name = "NAME|FILE")]
        profile: Option<profile::Choice>,
        #[command(flatten)]
        server: api::Options,
    },
    /// Watch an asset being made
    Watch {
        /// Its id
        asset: AssetId,
        #[command(flatten)]
        server: api::Options,
    },
    /// Make an asset again by another profile; until then viewers keep it
    Publish {
        /// Its id
        asset: AssetId,
        /// What is to be made of it: a profile's name, or a file with a profile in JSON
        #[arg(long, value_name = "NAME|FILE")]
        profile: profile::Choice,
        #[command(flatten)]
        server: api::Options,
    },
    /// List profiles, give one a name, or take one away
    Profile {
        #[command(subcommand)]
        command: profile::Command,
        #[command(flatten)]
        server: api::Options,
    },
    /// List assets, newest first
    Ls {
        #[command(flatten)]
        server: api::Options,
    },
    /// Show what is known of an asset: its source, renditions and address
    Show {
        /// Its id
        asset: AssetId,
        #[command(flatten)]
        server: api::Options,
    },
    /// Give an asset captions in a language, or take them away
    Caption {
        #[command(flatten)]
        captions: caption::Captions,
        #[command(flatten)]
        server: api::Options,
    },
    /// Delete an asset: nobody can play it any more
    Rm {
        /// Its id
        asset: AssetId,
        #[command(flatten)]
        server: api::Options,
    },
    /// Take something down at every edge
    Purge {
        #[command(subcommand)]
        what: purge::What,
        /// Why, for the audit trail
        #[arg(long, global = true, default_value = "asked for from the command line")]
        reason: String,
        #[command(flatten)]
        server: api::Options,
    },
    /// List takedowns, newest first
    Purges {
        #[command(flatten)]
        server: api::Options,
    },
    /// List workers, with what is held against them (operator only)
    Workers {
        #[command(subcommand)]
        command: Option<workers::Command>,
        #[command(flatten)]
        server: api::Options,
    },
    /// Print a token for viewers, for paths such as /t/TOKEN/watch/ID
    Token(access::Grant),
    /// Make, list or withdraw keys that tokens are signed with
    Key {
        #[command(subcommand)]
        command: access::KeyCommand,
        #[command(flatten)]
        server: api::Options,
    },
    /// Say who may watch an asset, or a tenant's assets
    Policy {
        #[command(flatten)]
        change: access::PolicyChange,
        #[command(flatten)]
        server: api::Options,
    },
    /// Bring back from the object store what a lost NATS knew
    Rebuild(rebuild::Options),
    /// Open an asset's player in Chromium, over HTTP/3
    Open {
        /// Its id
        asset: AssetId,
        #[command(flatten)]
        server: api::Options,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread, alive as long as the program: children that die with their parent die with the thread that made them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(arguments.command)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", console::style("reelmill:").red().bold());
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(options) => up::run(options).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Upload { file, name, profile, server } => {
            let api = Api::open(&server)?;
            let asset = upload::run(&api, &file, name.as_deref(), profile.as_ref()).await?;
            watch::run(&api, asset).await.map(drop)
        }
        Command::Watch { asset, server } => watch::run(&Api::open(&server)?, asset).await.map(drop),
        Command::Publish { asset, profile, server } => {
            publish::run(&Api::open(&server)?, asset, &profile).await
        }
        Command::Profile { command, server } => profile::run(&Api::open(&server)?, command).await,
        Command::Ls { server } => list::run(&Api::open(&server)?).await,
        Command::Show { asset, server } => show::run(&Api::open(&server)?, asset).await,
        Command::Caption { captions, server } => caption::run(&Api::open(&server)?, captions).await,
        Command::Rm { asset, server } => remove::run(&Api::open(&server)?, asset).await,
        Command::Purge { what, reason, server } => purge::run(&Api::open(&server)?, what, &reason).await,
        Command::Purges { server } => purge::list(&Api::open(&server)?).await,
        Command::Workers { command, server } => workers::run(&Api::open(&server)?, command).await,
        Command::Token(grant) => access::grant(&grant),
        Command::Key { command, server } => access::key(&Api::open(&server)?, command).await,
        Command::Policy { change, server } => access::policy(&Api::open(&server)?, change).await,
        Command::Rebuild(options) => rebuild::run(options).await,
        Command::Open { asset, server } => open::run(&server, asset),
    }
}
