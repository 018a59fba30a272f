//! Checks that the one thing that is not in this repository is there: hls.js, which the player page embeds.

use std::path::Path;

const HLS: &str = "player/node_modules/hls.js/dist/hls.min.js";

fn main() {
    println!("cargo::rerun-if-changed={HLS}");
    if !Path::new(HLS).exists() {
        println!(
            "cargo::error=edge/{HLS} is missing: run `make deps` once, it installs the player's JavaScript."
        );
    }
}
