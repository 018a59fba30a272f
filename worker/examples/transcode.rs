//! Transcodes one file into a folder, with the jobs that a worker would run, for looking at the result:
//! `cargo run -p reelmill-worker --example transcode -- INPUT FOLDER [RUNGS [PROFILE]]`, the profile in JSON

// A panic here is a failed test, said at the place where it failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use reelmill_media::profile::Profile;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err(anyhow!("usage: transcode INPUT FOLDER [RUNGS [PROFILE]]"));
    };
    let rungs: usize = arguments.next().map_or(Ok(usize::MAX), |n| n.parse())?;
    let profile = arguments.next().map_or(Ok(Profile::default()), |json| serde_json::from_str(&json))?;
    let source = std::fs::read(&input).with_context(|| input.clone())?;
    let began = Instant::now();
    let index = harness::index(&source).map_err(|f| anyhow!("{:?}: {}", f.code, f.reason))?;
    let title = harness::Title::planned(index, &profile).lowest(rungs);
    let indexed = began.elapsed();
    println!("{:?} index {indexed:?}", title.index.container);
    if let (Some(video), Some(timeline)) = (&title.index.video, &title.timeline) {
        println!(
            "  video {} {:?} clock {} samples {} frames {} rate {} end {:.3}s",
            video.setup.codec,
            video.picture,
            video.timescale.get(),
            video.samples.len(),
            timeline.frames.len(),
            timeline.frame_rate(),
            timeline.end.seconds(timeline.timescale),
        );
    }
    for audio in &title.index.audio {
        println!(
            "  audio {} {} Hz {} ch {:?} clock {} packets {}",
            audio.setup.codec,
            audio.sample_rate,
            audio.channels,
            audio.language,
            audio.timescale.get(),
            audio.samples.len(),
        );
    }
    std::fs::create_dir_all(&folder)?;
    let made = title.make(&source, &[2]).map_err(|f| anyhow!("{:?}: {}", f.code, f.reason))?;
    for (name, rendition) in &made {
        std::fs::write(Path::new(&folder).join(format!("{name}.mp4")), rendition.file())?;
        let frames: u32 = rendition.segments.iter().map(|s| s.frames).sum();
        let concealed: u32 = rendition.segments.iter().map(|s| s.concealed).sum();
        println!(
            "  {name} {} segments {} frames {frames} concealed {concealed} bytes {}",
            rendition.codecs,
            rendition.segments.len(),
            rendition.segments.iter().map(|s| s.bytes.len()).sum::<usize>()
        );
    }
    println!("  took {:?}", began.elapsed());
    Ok(())
}
