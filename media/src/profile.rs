//! A profile: what a platform wants made of its sources, in a few declarative lines. The ladder of one source follows
//! from it.

use serde::{Deserialize, Serialize};

use crate::codec::{AudioCodec, VideoCodec};

/// Rungs of one codec, at most.
const MAX_RUNGS: usize = 8;
/// Short sides that can be asked for, in pixels.
const SHORT_SIDES: std::ops::RangeInclusive<u32> = 64..=4320;
/// Segment lengths that can be asked for, in seconds.
const SEGMENT_SECONDS: std::ops::RangeInclusive<u32> = 1..=10;

/// What is to be made. What is left out is as in the default profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// One set of rungs per codec; the first is made first, and is what plays first.
    pub video: Vec<VideoLane>,
    /// One rendition of each sound track per codec.
    pub audio: Vec<AudioLane>,
    /// Length of segments after the first short ones, in seconds, 1 to 10.
    pub segment_seconds: u32,
    /// Of sources with more frames per second than this, every second (third, …) frame is kept.
    pub max_frame_rate: Option<u32>,
    /// Hardware encoders may be used where a worker has one that is proven.
    pub hardware: bool,
}

/// How long an encoder may look for fewer bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// For sources of which most are seen by few.
    #[default]
    Fast,
    /// Two to three times as long, for about a tenth of the bytes.
    Thorough,
}

/// The rungs of one codec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoLane {
    /// In what.
    pub codec: VideoCodec,
    /// Short sides of the rungs in pixels, ascending. Those above the source's are left out.
    #[serde(default = "default_short_sides")]
    pub short_sides: Vec<u32>,
    /// Quality wanted: the constant rate factor on the codec's own scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crf: Option<u8>,
    /// Rate cap of a 1920×1080 rung at up to 30 frames per second, in kbit/s; other sizes follow from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_kbps_1080: Option<u32>,
    /// How long the encoder may take.
    #[serde(default)]
    pub effort: Effort,
}

/// The renditions of sound in one codec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioLane {
    /// In what.
    pub codec: AudioCodec,
    /// Target rate in kbit/s, for both channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kbps: Option<u32>,
}

/// What is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Nothing would be made of a picture.
    #[error("a profile needs at least one video codec")]
    NoVideo,
    /// A codec is asked for twice.
    #[error("the profile names the codec {0} twice")]
    Twice(&'static str),
    /// No rungs, too many, out of order or out of range.
    #[error("short_sides of {0} must be 1 to {MAX_RUNGS} ascending numbers from 64 to 4320")]
    ShortSides(VideoCodec),
    /// Beyond the encoder's scale.
    #[error("crf of {0} must be from 1 to {max}", max = .0.max_crf())]
    Crf(VideoCodec),
    /// A cap nobody could mean.
    #[error("max_kbps_1080 of {0} must be from 200 to 100000")]
    Cap(VideoCodec),
    /// A rate nobody could mean.
    #[error("kbps of {0} must be from 24 to 320")]
    AudioRate(AudioCodec),
    /// Out of range.
    #[error("segment_seconds must be from 1 to 10")]
    Segment,
    /// Out of range.
    #[error("max_frame_rate must be from 10 to 240")]
    FrameRate,
}

fn default_short_sides() -> Vec<u32> {
    vec![360, 480, 720, 1080]
}

impl Default for Profile {
    fn default() -> Self {
        let video = VideoLane {
            codec: VideoCodec::H264,
            short_sides: default_short_sides(),
            crf: None,
            max_kbps_1080: None,
            effort: Effort::default(),
        };
        let audio = AudioLane { codec: AudioCodec::Aac, kbps: None };
        Self {
            video: vec![video],
            audio: vec![audio],
            segment_seconds: 4,
            max_frame_rate: None,
            hardware: false,
        }
    }
}

impl VideoLane {
    /// The constant rate factor, by default one of about equal looks in every codec.
    pub fn crf(&self) -> u8 {
        self.crf.unwrap_or(match self.codec {
            VideoCodec::H264 => 23,
            VideoCodec::Hevc => 26,
            VideoCodec::Av1 => 35,
        })
    }

    /// The rate cap of 1080p30 in kbit/s, by default the lower the better the codec is.
    pub fn max_kbps_1080(&self) -> u32 {
        self.max_kbps_1080.unwrap_or(match self.codec {
            VideoCodec::H264 => 6000,
            VideoCodec::Hevc => 4200,
            VideoCodec::Av1 => 3600,
        })
    }
}

impl AudioLane {
    /// The target rate in kbit/s.
    pub fn kbps(&self) -> u32 {
        self.kbps.unwrap_or(match self.codec {
            AudioCodec::Aac => 128,
            AudioCodec::Opus => 96,
        })
    }
}

impl Profile {
    /// Refuses what cannot be made.
    pub fn check(&self) -> Result<(), ProfileError> {
        if self.video.is_empty() {
            return Err(ProfileError::NoVideo);
        }
        for (n, lane) in self.video.iter().enumerate() {
            let sides = &lane.short_sides;
            if self.video.iter().skip(n + 1).any(|other| other.codec == lane.codec) {
                return Err(ProfileError::Twice(lane.codec.name()));
            }
            let ascending = sides.windows(2).all(|pair| pair[0] < pair[1]);
            if sides.is_empty()
                || sides.len() > MAX_RUNGS
                || !ascending
                || sides.iter().any(|s| !SHORT_SIDES.contains(s))
            {
                return Err(ProfileError::ShortSides(lane.codec));
            }
            if !(1..=lane.codec.max_crf()).contains(&lane.crf()) {
                return Err(ProfileError::Crf(lane.codec));
            }
            if !(200..=100_000).contains(&lane.max_kbps_1080()) {
                return Err(ProfileError::Cap(lane.codec));
            }
        }
        for (n, lane) in self.audio.iter().enumerate() {
            if self.audio.iter().skip(n + 1).any(|other| other.codec == lane.codec) {
                return Err(ProfileError::Twice(lane.codec.name()));
            }
            if !(24..=320).contains(&lane.kbps()) {
                return Err(ProfileError::AudioRate(lane.codec));
            }
        }
        if !SEGMENT_SECONDS.contains(&self.segment_seconds) {
            return Err(ProfileError::Segment);
        }
        if self.max_frame_rate.is_some_and(|rate| !(10..=240).contains(&rate)) {
            return Err(ProfileError::FrameRate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, String> {
        let profile: Profile = serde_json::from_str(text).map_err(|e| e.to_string())?;
        profile.check().map_err(|e| e.to_string())?;
        Ok(profile)
    }

    #[test]
    fn what_is_left_out_is_as_in_the_default() {
        assert_eq!(read("{}").unwrap(), Profile::default());
        let both = read(r#"{"video":[{"codec":"h264"},{"codec":"av1","short_sides":[720]}]}"#).unwrap();
        assert_eq!(both.video[0], Profile::default().video[0]);
        assert_eq!((both.video[1].crf(), both.audio), (35, Profile::default().audio));
    }

    #[test]
    fn what_cannot_be_made_is_refused_in_one_sentence() {
        for (text, part) in [
            (r#"{"video":[]}"#, "at least one video codec"),
            (r#"{"video":[{"codec":"h264"},{"codec":"h264"}]}"#, "twice"),
            (r#"{"video":[{"codec":"h264","short_sides":[720,360]}]}"#, "ascending"),
            (r#"{"video":[{"codec":"hevc","crf":52}]}"#, "from 1 to 51"),
            (r#"{"audio":[{"codec":"opus","kbps":1}]}"#, "from 24 to 320"),
            (r#"{"segment_seconds":0}"#, "from 1 to 10"),
            (r#"{"segments":4}"#, "unknown field"),
            (r#"{"video":[{"codec":"vp9"}]}"#, "unknown variant"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
