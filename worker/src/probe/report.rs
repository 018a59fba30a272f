//! What `reelmill-worker probe` prints: a table for people, or JSON for programs.

use std::io::{self, Write};

use console::{StyledObject, style};
use reelmill_av::{Hardware, libraries};
use reelmill_media::codec::VideoCodec;
use serde::Serialize;

use super::devices::RENDER_NODES;
use super::{Finding, Prober, Ready, Verdict};

/// The document that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// libav's libraries with their versions.
    libraries: String,
    encoders: Vec<Finding>,
}

/// Tries every encoder, software first, and prints what came of it.
pub async fn print(prober: &Prober, json: bool) -> io::Result<()> {
    let mut report = Report { libraries: libraries(), encoders: Vec::new() };
    let mut out = io::stdout().lock();
    let mut found = |finding: Finding| {
        // A line as soon as it is known: a driver may take its time.
        if !json && finding.verdict != Verdict::NotBuilt {
            writeln!(out, "{}", line(&finding))?;
        }
        report.encoders.push(finding);
        io::Result::Ok(())
    };
    for codec in [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1] {
        found(prober.software(codec).await)?;
    }
    for hardware in Hardware::candidates() {
        found(prober.candidate(hardware).await)?;
    }
    if json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        return writeln!(out);
    }
    let missing = report.encoders.iter().filter(|f| f.verdict == Verdict::NotBuilt).map(|f| f.encoder);
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        let libav = report.libraries.split(", ").next().unwrap_or_default();
        writeln!(out, "\nNot built into {libav}: {}", missing.join(", "))?;
    }
    Ok(())
}

fn line(finding: &Finding) -> String {
    let Finding { encoder, codec, verdict, .. } = finding;
    let (state, said): (StyledObject<&str>, String) = match verdict {
        Verdict::Ready(ready) => (style("ready").green(), in_words(ready)),
        Verdict::Refused { reason } => (style("refused").yellow(), reason.clone()),
        Verdict::NotBuilt => (style("not built").dim(), String::new()),
    };
    format!("{encoder:<17}  {:<5}  {state:<7}  {said}", codec_name(*codec))
}

/// As people write it.
pub(super) const fn codec_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "H.264",
        VideoCodec::Hevc => "HEVC",
        VideoCodec::Av1 => "AV1",
    }
}

fn in_words(ready: &Ready) -> String {
    let size = |at: Option<&(u32, u32)>| at.map(|(w, h)| format!("{w}×{h}")).unwrap_or_default();
    let node = ready.engine.hardware().and_then(|hardware| hardware.render_node);
    let node = node.map(|n| format!(", on {RENDER_NODES}/renderD{n}")).unwrap_or_default();
    match (&ready.version, ready.sessions) {
        (Some(version), _) => version.clone(),
        (None, None) => "software".to_owned(),
        (None, Some(sessions)) => {
            let (least, most) = (size(ready.sizes.first()), size(ready.sizes.last()));
            format!("{least} to {most}, {sessions} at once{node}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reelmill_av::{Family, VideoEngine};

    const ENGINE: VideoEngine = VideoEngine::Hardware(Hardware {
        family: Family::Vaapi,
        codec: VideoCodec::Hevc,
        render_node: Some(128),
        level: None,
    });

    fn plain(verdict: Verdict) -> String {
        console::strip_ansi_codes(&line(&Finding::of(ENGINE, verdict))).into_owned()
    }

    #[test]
    fn lines_say_how_much_or_why_not() {
        let sizes = vec![(256, 144), (1920, 1080)];
        assert_eq!(
            plain(Verdict::Ready(Ready { engine: ENGINE, version: None, sizes, sessions: Some(8) })),
            "hevc_vaapi         HEVC   ready    256×144 to 1920×1080, 8 at once, on /dev/dri/renderD128"
        );
        assert_eq!(
            plain(Verdict::Refused { reason: "no render node".into() }),
            "hevc_vaapi         HEVC   refused  no render node"
        );
    }
}
