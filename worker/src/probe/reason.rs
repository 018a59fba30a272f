//! Why a hardware encoder was refused, in words that lead to a remedy. libav's codes differ from encoder to encoder and say
//! little; its log says more, and the device files most.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use reelmill_av::{Family, Hardware};

use super::devices::{RENDER_NODES, has_video, render_nodes};
use super::report::codec_name;

/// What stands behind `error`, given libav's log.
pub fn in_words(hardware: Hardware, error: &str, log: &[String]) -> String {
    let codec = codec_name(hardware.codec);
    let logged = |part: &str| log.iter().any(|line| line.contains(part));
    let known = match hardware.family {
        Family::Nvenc if logged("Cannot load libcuda.so.1") => {
            Some("no NVIDIA driver: libcuda.so.1 is not installed".to_owned())
        }
        Family::Nvenc if logged("Cannot load libnvidia-encode.so.1") => Some(
            "the NVIDIA driver comes without its encoder: libnvidia-encode.so.1 is not installed".to_owned(),
        ),
        Family::Nvenc if logged("CUDA_ERROR_NO_DEVICE") => {
            Some("an NVIDIA driver, but no GPU that it finds".to_owned())
        }
        Family::Nvenc if logged("unsupported device") => Some("this GPU has no encoder".to_owned()),
        Family::Nvenc if logged("Codec not supported") => Some(format!("this GPU does not encode {codec}")),
        Family::Nvenc => None,
        Family::Vaapi => no_render_node().or_else(|| {
            error.contains("av_hwdevice_ctx_create").then(|| {
                format!("libva has no driver for the GPU in {RENDER_NODES}, as `vainfo` says in detail")
            })
        }),
        Family::Qsv => no_render_node().or_else(|| {
            logged("MFX session")
                .then(|| "no runtime of Intel Quick Sync Video (libmfx or oneVPL) serves this GPU".to_owned())
        }),
        Family::Amf => logged("libamfrt64")
            .then(|| "no AMD encoder runtime: libamfrt64.so.1 is not installed".to_owned()),
        Family::V4l2M2m if !has_video() => Some("no video device: there is no /dev/video*".to_owned()),
        Family::V4l2M2m => {
            logged("Could not find a valid device").then(|| format!("no /dev/video* device encodes {codec}"))
        }
        Family::VideoToolbox => None,
    };
    known.unwrap_or_else(|| match log.iter().rev().find_map(|line| said(line)) {
        Some(line) => format!("{error} ({line})"),
        None => error.to_owned(),
    })
}

/// Why there is nothing to be reached on a render node, if that is so.
fn no_render_node() -> Option<String> {
    if !Path::new(RENDER_NODES).exists() {
        return Some(format!("no render node: {RENDER_NODES} does not exist"));
    }
    let nodes = render_nodes();
    if nodes.is_empty() {
        return Some(format!("no render node in {RENDER_NODES}"));
    }
    let mut refused = nodes.iter().filter_map(|n| {
        let node = format!("{RENDER_NODES}/renderD{n}");
        let opened = OpenOptions::new().read(true).write(true).open(&node);
        opened.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied).then_some(node)
    });
    let all = refused.clone().count() == nodes.len();
    refused.next().filter(|_| all).map(|node| {
        format!(
            "this user may not open {node}: it belongs to a group (mostly `render`) that the user is not in"
        )
    })
}

/// A line of libav's log without the part that names its object and address.
fn said(line: &str) -> Option<&str> {
    let text = match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, text)) => text,
        None => line,
    };
    Some(text.trim().trim_end_matches('.')).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reelmill_media::codec::VideoCodec;

    fn hardware(family: Family) -> Hardware {
        Hardware { family, codec: VideoCodec::Hevc, render_node: None, level: None }
    }

    fn reason(family: Family, line: &str) -> String {
        in_words(hardware(family), "avcodec_open2: Operation not permitted", &[line.to_owned()])
    }

    #[test]
    fn what_libav_logs_is_put_in_words() {
        let reason = |line| reason(Family::Nvenc, line);
        assert_eq!(
            reason("[hevc_nvenc @ 0x55] Cannot load libcuda.so.1"),
            "no NVIDIA driver: libcuda.so.1 is not installed"
        );
        assert_eq!(reason("OpenEncodeSessionEx failed: unsupported device (2)"), "this GPU has no encoder");
        assert_eq!(reason("[hevc_nvenc @ 0x55] Codec not supported"), "this GPU does not encode HEVC");
    }

    #[test]
    fn what_is_unknown_is_passed_on_with_libavs_last_line() {
        assert_eq!(
            reason(Family::VideoToolbox, "[hevc_videotoolbox @ 0x1] Error: cannot create session: -12908. "),
            "avcodec_open2: Operation not permitted (Error: cannot create session: -12908)"
        );
        assert_eq!(in_words(hardware(Family::VideoToolbox), "no", &[]), "no");
    }
}
