//! Containers other than MP4, read by libav's demuxers with everything else of libavformat locked out.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::ptr::{self, NonNull};

use ffmpeg_next::ffi;
use ffmpeg_next::format::context::StreamIo;
use reelmill_media::index::{Orientation, WaveFacts};
use reelmill_media::time::Timescale;

use crate::error::{AvError, check};
use crate::packet::Packet;

/// Bytes the demuxer's own buffer holds; the reader behind it reads ahead in larger steps.
const IO_BUFFER_BYTES: usize = 64 << 10;
/// Bytes libav may look through to find streams and their parameters, at most.
pub const MOST_LOOK_BYTES: u32 = 8 << 20;
/// Media time libav may look through for the same, in microseconds.
const ANALYSE_MICROS: i64 = 8_000_000;
/// Damaged places in a row that are passed over.
const MAX_DAMAGE: usize = 10_000;
/// Streams a container may hold.
const MAX_STREAMS: c_int = 64;

/// The demuxers we allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Matroska and WebM.
    Matroska,
    /// MPEG transport stream.
    MpegTs,
    /// AVI.
    Avi,
    /// Flash video.
    Flv,
    /// Ogg.
    Ogg,
    /// ASF: Windows Media.
    Asf,
    /// MPEG program stream.
    MpegPs,
    /// MPEG audio without a container.
    MpegAudio,
    /// RIFF WAVE and RF64.
    Wav,
    /// FLAC without another container.
    Flac,
    /// AIFF and AIFF-C.
    Aiff,
    /// Core Audio Format.
    Caf,
    /// AAC in ADTS frames.
    Adts,
}

impl Format {
    fn demuxer(self) -> &'static CStr {
        match self {
            Format::Matroska => c"matroska",
            Format::MpegTs => c"mpegts",
            Format::Avi => c"avi",
            Format::Flv => c"flv",
            Format::Ogg => c"ogg",
            Format::Asf => c"asf",
            Format::MpegPs => c"mpeg",
            Format::MpegAudio => c"mp3",
            Format::Wav => c"wav",
            Format::Flac => c"flac",
            Format::Aiff => c"aiff",
            Format::Caf => c"caf",
            Format::Adts => c"aac",
        }
    }

    /// What `format_whitelist` must hold: the demuxer's full list of names.
    fn whitelist(self) -> &'static CStr {
        match self {
            Format::Matroska => c"matroska,webm",
            Format::MpegTs
            | Format::Avi
            | Format::Flv
            | Format::Ogg
            | Format::Asf
            | Format::MpegPs
            | Format::MpegAudio
            | Format::Wav
            | Format::Flac
            | Format::Aiff
            | Format::Caf
            | Format::Adts => self.demuxer(),
        }
    }
}

/// How far a container is looked through when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Into packets, for parameters that the container does not state.
    Analyse,
    /// For streams alone, by whoever knows the parameters already: in at most so many bytes, where tables of them lie
    /// between packets.
    Streams(u32),
}

/// Where to go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// At or before a time on a stream's clock, in ticks.
    Time {
        /// The stream whose clock it is.
        stream: u32,
        /// Ticks of it.
        ticks: i64,
    },
    /// A byte position of the container.
    Byte(u64),
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Pictures; cover art and thumbnails are not counted as such.
    Video,
    /// Sound.
    Audio,
    /// Anything else.
    Other,
}

/// A stream as the container describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// What it carries.
    pub kind: StreamKind,
    /// libav's name of its codec.
    pub codec: String,
    /// Out-of-band decoder parameters.
    pub extradata: Vec<u8>,
    /// What the container says of sound besides.
    pub wave: WaveFacts,
    /// Its clock, when that is a whole number of ticks per second …
    pub timescale: Option<Timescale>,
    /// … and otherwise (as in AVI) ticks of this many seconds over `timescale_den`.
    pub time_base: (u32, u32),
    /// Pixels; 0 for sound.
    pub width: u32,
    /// Pixels; 0 for sound.
    pub height: u32,
    /// Samples per second; 0 for pictures.
    pub sample_rate: u32,
    /// Channels; 0 for pictures.
    pub channels: u16,
    /// Marked as the one to play.
    pub default: bool,
    /// How the picture must be turned for display.
    pub orientation: Orientation,
    /// Pixel width to height, if the container says.
    pub sample_aspect: Option<(u32, u32)>,
    /// ISO 639-2 code, if said.
    pub language: Option<String>,
    /// Frames per second as the container or the probe says (numerator, denominator).
    pub frame_rate: Option<(u32, u32)>,
}

/// Reads packets out of a container.
pub struct Demuxer {
    context: NonNull<ffi::AVFormatContext>,
    // Dropped after `close` in `Drop`: demuxers may read while closing.
    _io: StreamIo,
}

// SAFETY: an AVFormatContext has no ties to a thread, the reader behind it is Send, and we own both alone.
unsafe impl Send for Demuxer {}

impl Demuxer {
    /// Opens `format` (never guessed) over `input`.
    pub fn open<R>(format: Format, input: R, look: Look) -> Result<Self, AvError>
    where
        R: io::Read + io::Seek + Send + 'static,
    {
        let mut stream = StreamIo::from_read_seek_with_capacity(input, IO_BUFFER_BYTES)
            .map_err(|_| AvError::NoMemory("StreamIo"))?;
        // SAFETY: the name is a terminated constant; the demuxer list is static.
        let demuxer = unsafe { ffi::av_find_input_format(format.demuxer().as_ptr()) };
        if demuxer.is_null() {
            return Err(AvError::Missing("demuxer for this container"));
        }
        // SAFETY: a fresh context; strings handed over are libav's own allocations, which it frees; the I/O context
        // outlives the format context (see `Drop`). avformat_open_input frees the context itself when it fails.
        let context = unsafe {
            let mut raw = ffi::avformat_alloc_context();
            let Some(fresh) = raw.as_mut() else { return Err(AvError::NoMemory("avformat_alloc_context")) };
            fresh.pb = stream.as_mut_ptr();
            fresh.flags |= ffi::AVFMT_FLAG_CUSTOM_IO | ffi::AVFMT_FLAG_DISCARD_CORRUPT;
            fresh.format_whitelist = ffi::av_strdup(format.whitelist().as_ptr());
            // An empty list means "all" to libav; this names no protocol that exists.
            fresh.protocol_whitelist = ffi::av_strdup(c"none".as_ptr());
            fresh.io_open = Some(refuse_to_open);
            fresh.max_streams = MAX_STREAMS;
            fresh.probesize = i64::from(match look {
                Look::Analyse => MOST_LOOK_BYTES,
                Look::Streams(bytes) => bytes,
            });
            fresh.max_analyze_duration = ANALYSE_MICROS;
            // Wrapped clocks are unrolled by whoever knows the sample table, so that a seek changes no time.
            fresh.correct_ts_overflow = 0;
            check(
                "avformat_open_input",
                ffi::avformat_open_input(&mut raw, ptr::null(), demuxer, ptr::null_mut()),
            )?;
            NonNull::new(raw).ok_or(AvError::NoMemory("avformat_open_input"))?
        };
        let demuxer = Self { context, _io: stream };
        if look == Look::Analyse {
            // SAFETY: an opened context that we own.
            let code = unsafe { ffi::avformat_find_stream_info(demuxer.context.as_ptr(), ptr::null_mut()) };
            check("avformat_find_stream_info", code)?;
        }
        Ok(demuxer)
    }

    /// All streams found so far.
    pub fn streams(&self) -> Vec<StreamFacts> {
        self.raw_streams().map(facts).collect()
    }

    /// Has libav skip the packets of all streams but these.
    pub fn keep_only(&mut self, wanted: &[u32]) {
        // SAFETY: the array holds nb_streams valid pointers; no other reference to the streams is alive.
        unsafe {
            let raw = self.context.as_ref();
            for i in 0..raw.nb_streams {
                let stream = *raw.streams.add(i as usize);
                (*stream).discard = if wanted.contains(&i) {
                    ffi::AVDiscard::AVDISCARD_DEFAULT
                } else {
                    ffi::AVDiscard::AVDISCARD_ALL
                };
            }
        }
    }

    /// Reads the next packet; `false` at the end.
    pub fn read(&mut self, packet: &mut Packet) -> Result<bool, AvError> {
        // SAFETY: an opened context; av_read_frame wants the packet clear.
        let mut read = || unsafe {
            ffi::av_packet_unref(packet.as_mut_ptr());
            ffi::av_read_frame(self.context.as_ptr(), packet.as_mut_ptr())
        };
        // "Try again" is how some demuxers say that they have passed over damage.
        let again = |code: &c_int| *code == ffi::AVERROR(ffi::EAGAIN);
        let code = std::iter::repeat_with(&mut read).take(MAX_DAMAGE).find(|code| !again(code));
        match code.unwrap_or(ffi::AVERROR_INVALIDDATA) {
            ffi::AVERROR_EOF => Ok(false),
            code => check("av_read_frame", code).map(|_| true),
        }
    }

    /// Goes elsewhere.
    pub fn seek(&mut self, to: Seek) -> Result<(), AvError> {
        let (stream, at, flags) = match to {
            Seek::Time { stream, ticks } => {
                (i32::try_from(stream).unwrap_or(-1), ticks, ffi::AVSEEK_FLAG_BACKWARD)
            }
            Seek::Byte(position) => (-1, i64::try_from(position).unwrap_or(i64::MAX), ffi::AVSEEK_FLAG_BYTE),
        };
        // SAFETY: an opened context.
        check("av_seek_frame", unsafe { ffi::av_seek_frame(self.context.as_ptr(), stream, at, flags) })
            .map(drop)
    }

    fn raw_streams(&self) -> impl Iterator<Item = &ffi::AVStream> {
        // SAFETY: the array holds nb_streams valid pointers, all of which live as long as the context.
        unsafe {
            let raw = self.context.as_ref();
            (0..raw.nb_streams as usize).map(move |i| &**raw.streams.add(i))
        }
    }
}

impl Drop for Demuxer {
    fn drop(&mut self) {
        let mut raw = self.context.as_ptr();
        // SAFETY: we own the context; custom I/O is left to `_io`, which is dropped after this.
        unsafe { ffi::avformat_close_input(&mut raw) };
    }
}

/// No demuxer may open anything, whatever a file says.
unsafe extern "C" fn refuse_to_open(
    _context: *mut ffi::AVFormatContext,
    _io: *mut *mut ffi::AVIOContext,
    _url: *const c_char,
    _flags: c_int,
    _options: *mut *mut ffi::AVDictionary,
) -> c_int {
    ffi::AVERROR(ffi::EPERM)
}

fn facts(stream: &ffi::AVStream) -> StreamFacts {
    // SAFETY: every stream has parameters for as long as it lives; the name is a static string.
    let (parameters, codec) = unsafe {
        let parameters = &*stream.codecpar;
        (parameters, CStr::from_ptr(ffi::avcodec_get_name(parameters.codec_id)))
    };
    let picture =
        stream.disposition & (ffi::AV_DISPOSITION_ATTACHED_PIC | ffi::AV_DISPOSITION_TIMED_THUMBNAILS) != 0;
    let kind = match parameters.codec_type {
        ffi::AVMediaType::AVMEDIA_TYPE_VIDEO if !picture => StreamKind::Video,
        ffi::AVMediaType::AVMEDIA_TYPE_AUDIO => StreamKind::Audio,
        _ => StreamKind::Other,
    };
    let positive = |value: c_int| u32::try_from(value).unwrap_or(0);
    let base = (positive(stream.time_base.num), positive(stream.time_base.den));
    let sar = [stream.sample_aspect_ratio, parameters.sample_aspect_ratio];
    let extradata = match usize::try_from(parameters.extradata_size) {
        // SAFETY: libav keeps that many bytes there while the stream lives.
        Ok(size) if size > 0 && !parameters.extradata.is_null() => unsafe {
            std::slice::from_raw_parts(parameters.extradata, size).to_vec()
        },
        Ok(_) | Err(_) => Vec::new(),
    };
    StreamFacts {
        kind,
        codec: codec.to_string_lossy().into_owned(),
        extradata,
        wave: WaveFacts {
            block_bytes: positive(parameters.block_align),
            bits_per_second: u32::try_from(parameters.bit_rate).unwrap_or(0),
            sample_bits: positive(parameters.bits_per_coded_sample),
        },
        timescale: if base.0 == 1 { Timescale::new(base.1) } else { None },
        time_base: base,
        width: positive(parameters.width),
        height: positive(parameters.height),
        sample_rate: positive(parameters.sample_rate),
        channels: u16::try_from(parameters.ch_layout.nb_channels).unwrap_or(0),
        default: stream.disposition & ffi::AV_DISPOSITION_DEFAULT != 0,
        orientation: orientation(stream),
        sample_aspect: sar
            .into_iter()
            .map(|r| (positive(r.num), positive(r.den)))
            .find(|r| r.0 > 0 && r.1 > 0),
        language: language(stream),
        frame_rate: [stream.avg_frame_rate, stream.r_frame_rate]
            .into_iter()
            .map(|r| (positive(r.num), positive(r.den)))
            .find(|r| r.0 > 0 && r.1 > 0),
    }
}

fn language(stream: &ffi::AVStream) -> Option<String> {
    // SAFETY: the dictionary is the stream's own; an entry's value is a terminated string that lives with it.
    let value = unsafe {
        let entry = ffi::av_dict_get(stream.metadata, c"language".as_ptr(), ptr::null(), 0);
        entry.as_ref().map(|e| CStr::from_ptr(e.value).to_string_lossy().into_owned())
    }?;
    (value.len() == 3 && value != "und" && value.bytes().all(|b| b.is_ascii_lowercase())).then_some(value)
}

fn orientation(stream: &ffi::AVStream) -> Orientation {
    let mut bytes = 0usize;
    // SAFETY: a valid stream; the matrix is nine 32-bit integers when the size says so, and need not be aligned.
    let matrix = unsafe {
        let data = ffi::av_stream_get_side_data(
            stream,
            ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX,
            &mut bytes,
        );
        if data.is_null() || bytes < 36 { None } else { Some(data.cast::<[i32; 9]>().read_unaligned()) }
    };
    matrix.map_or(Orientation::default(), |m| Orientation::from_matrix([m[0], m[1], m[3], m[4]]))
}
