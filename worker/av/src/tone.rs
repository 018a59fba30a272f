//! Colour: what a rendition is tagged with, and the filters that get a source there.

use reelmill_media::index::{Colour, Picture};

/// Brightness in nits of what becomes SDR white's neighbourhood when HDR is tone-mapped.
const TONE_MAP_NOMINAL_NITS: u32 = 100;
/// Brightest highlight kept when HDR is tone-mapped, in multiples of the nominal brightness.
const TONE_MAP_PEAK: u32 = 10;

/// Code points of ITU-T H.273 that all renditions of a source carry; the range is always limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputColour {
    /// ColourPrimaries.
    pub primaries: u8,
    /// TransferCharacteristics.
    pub transfer: u8,
    /// MatrixCoefficients.
    pub matrix: u8,
}

impl OutputColour {
    const BT709: OutputColour = OutputColour { primaries: 1, transfer: 1, matrix: 1 };

    /// Standard-definition BT.601 stays as it is; everything else becomes BT.709.
    pub fn of(picture: &Picture) -> Self {
        let source = resolved(picture.colour, picture.width, picture.height);
        let converted = source.is_hdr() || source.primaries == 9 || is_hd(picture.width, picture.height);
        match source.matrix {
            5 | 6 if !converted => Self {
                primaries: if matches!(source.primaries, 1 | 5 | 6) {
                    source.primaries
                } else {
                    source.matrix
                },
                transfer: if matches!(source.transfer, 1 | 6) { source.transfer } else { 6 },
                matrix: source.matrix,
            },
            _ => Self::BT709,
        }
    }
}

/// Players guess unsaid colour by size, and the guess is what makers of such files saw.
fn is_hd(width: u32, height: u32) -> bool {
    width.max(height) >= 1280 || width.min(height) > 576
}

/// Replaces what is unsaid by what it most likely is.
pub(crate) fn resolved(colour: Colour, width: u32, height: u32) -> Colour {
    let hdr = colour.is_hdr();
    let matrix = match colour.matrix {
        2 | 3 if hdr || colour.primaries == 9 => 9,
        2 | 3 if is_hd(width, height) => 1,
        2 | 3 => 6,
        said => said,
    };
    let primaries = match colour.primaries {
        0 | 2 | 3 if matches!(matrix, 9 | 10) => 9,
        0 | 2 | 3 if matches!(matrix, 5 | 6) => matrix,
        0 | 2 | 3 => 1,
        said => said,
    };
    let transfer = if matches!(colour.transfer, 0 | 2 | 3) { 1 } else { colour.transfer };
    Colour { primaries, transfer, matrix, full_range: colour.full_range }
}

/// What the scaler in front must be told, and the filters behind it.
pub(crate) struct ToneFilters {
    /// Options of the first `scale`, each with a leading `:`.
    pub(crate) scale_options: String,
    /// Filters after it, each with a trailing `,`.
    pub(crate) after: String,
}

/// The way from a resolved source colour to `target`.
pub(crate) fn filters(source: Colour, target: OutputColour) -> ToneFilters {
    let range = match source.full_range {
        Some(true) => "full",
        Some(false) => "limited",
        None => "auto",
    };
    if source.is_hdr() || source.primaries == 9 {
        // zimg converts primaries and transfer, which the scaler cannot. The scaler passes samples on unchanged.
        let primaries = if source.primaries == 9 { "bt2020" } else { "bt709" };
        let matrix = if matches!(source.matrix, 9 | 10) { "2020_ncl" } else { "709" };
        let zrange = if source.full_range == Some(true) { "full" } else { "limited" };
        let transfer = match source.transfer {
            16 => "smpte2084",
            18 => "arib-std-b67",
            _ => "bt709",
        };
        let from = format!("zscale=pin={primaries}:min={matrix}:rin={zrange}:tin={transfer}");
        let to = "t=bt709:m=bt709:p=bt709:r=limited";
        let after = if source.is_hdr() {
            format!(
                "{from}:t=linear:npl={TONE_MAP_NOMINAL_NITS},format=gbrpf32le,zscale=p=bt709,\
                 tonemap=hable:desat=2:peak={TONE_MAP_PEAK},zscale={to},"
            )
        } else {
            format!("{from}:{to},")
        };
        return ToneFilters { scale_options: String::new(), after };
    }
    let matrix = |code: u8| match code {
        1 => Some("bt709"),
        4 => Some("fcc"),
        5 | 6 => Some("bt601"),
        7 => Some("smpte240m"),
        9 | 10 => Some("bt2020"),
        _ => None, // RGB and rarities: the scaler's own reading of the pixel format
    };
    let input = matrix(source.matrix).unwrap_or("auto");
    let output = matrix(target.matrix).unwrap_or("bt709");
    // A scaler that has nothing to convert hands a picture of the right size on; with these options it would copy it.
    let scale_options = if input == output && source.full_range != Some(true) {
        String::new()
    } else {
        format!(":in_color_matrix={input}:out_color_matrix={output}:in_range={range}:out_range=limited")
    };
    ToneFilters { scale_options, after: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, colour: Colour) -> Picture {
        Picture { colour, ..Picture::plain(width, height) }
    }

    #[test]
    fn standard_definition_stays_and_all_else_becomes_bt709() {
        let unsaid = Colour::UNSPECIFIED;
        assert_eq!(OutputColour::of(&picture(1920, 1080, unsaid)), OutputColour::BT709);
        assert_eq!(OutputColour::of(&picture(720, 1280, unsaid)), OutputColour::BT709);
        assert_eq!(OutputColour::of(&picture(640, 360, unsaid)).matrix, 6);
        let pal = Colour { primaries: 5, transfer: 6, matrix: 5, full_range: None };
        assert_eq!(
            OutputColour::of(&picture(720, 576, pal)),
            OutputColour { primaries: 5, transfer: 6, matrix: 5 }
        );
        assert_eq!(OutputColour::of(&picture(1920, 1080, pal)), OutputColour::BT709);
        let hlg = Colour { primaries: 9, transfer: 18, matrix: 9, full_range: None };
        assert_eq!(OutputColour::of(&picture(640, 360, hlg)), OutputColour::BT709);
    }

    #[test]
    fn only_what_differs_is_converted() {
        let options = |matrix, full_range| {
            let source = resolved(Colour { matrix, full_range, ..Colour::UNSPECIFIED }, 1280, 720);
            filters(source, OutputColour::BT709).scale_options
        };
        assert_eq!((options(1, Some(false)), options(2, None)), (String::new(), String::new()));
        assert!(options(1, Some(true)).contains("in_range=full"));
        assert!(options(6, None).contains("in_color_matrix=bt601:out_color_matrix=bt709"));
    }
}
